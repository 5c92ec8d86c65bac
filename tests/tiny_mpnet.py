"""A sentence encoder of a few kilobytes, in the form in which all-mpnet-base-v2 is published."""

from pathlib import Path

WORDS = ("a", "wing", "wings", "long", "beak", "bird", "water", "red", "cat", "dog", "tail", "tree", "sky")
TOKENS = ("<s>", "<pad>", "</s>", "<unk>", *WORDS, *"bcdefghijklmnopqrstuvwxyz")
PIECES = tuple(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")


def write_mpnet(folder: Path) -> Path:
    """Random weights of a fixed seed. As the published file, it holds a buffer that newer models have not."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    vocabulary = {token: place for place, token in enumerate((*TOKENS, *PIECES, "<mask>"))}
    config = MPNetConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MPNetModel(config)
        with torch.no_grad():  # normalisations are not trivial
            for name, parameter in model.named_parameters():
                if "LayerNorm" in name or name.endswith("bias"):
                    parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    MPNetTokenizer(vocab=vocabulary, unk_token="<unk>").save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.position_ids"] = torch.arange(64)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
