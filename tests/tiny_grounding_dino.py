"""A GroundingDINO of a few hundred kilobytes, in the form in which the real ones are published."""

import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WORDS = (
    *(
        "a",
        "red",
        "wing",
        "wings",
        "beak",
        "bird",
        "water",
        "forest",
        "dark",
        "white",
        "breasted",
        "st",
        "the",
    ),
    *("yellow", "crest", "long", "tail", "striped", "cat"),
)
MAX_TEXT_LENGTH = 32
SHORTEST, LONGEST = 64, 96
THRESHOLD = 0.78  # random weights: some queries of most pairs are above, some are not
CONCEPTS = ("red wing", "beak", "White-breasted bird", "the st. bernard", "red", "a red wing", "water.")
STREAM = np.random.default_rng(0)


def bert_vocabulary() -> dict[str, int]:
    """Few words, but the places of special tokens, punctuation and letters of bert-base-uncased: the model's
    code knows [CLS], [SEP], the full stop and the question mark by their numbers."""
    tokens = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    printed = [chr(code) for code in range(33, 127) if chr(code) not in string.ascii_uppercase]
    tokens |= {character: 999 + place for place, character in enumerate(printed)}
    pieces = [*string.ascii_lowercase, "##s", *(f"##{letter}" for letter in string.ascii_lowercase)]
    new = [token for token in dict.fromkeys((*WORDS, *pieces)) if token not in tokens]
    tokens |= {token: 1100 + place for place, token in enumerate(new)}
    taken = set(tokens.values())
    return tokens | {f"[unused{i}]": i for i in range(1, max(taken)) if i not in taken}


def write_grounding_dino(folder: Path, seed: int = 0) -> Path:
    """Random weights of a fixed seed, larger than at initialisation, so that scores are spread."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    vocabulary = bert_vocabulary()
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[1] * 4,
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=12,
        max_text_len=MAX_TEXT_LENGTH,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GroundingDinoForObjectDetection(config)
        with torch.no_grad():  # as initialised, boxes would be a grid and hardly depend on the text
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for parameter in model.model.decoder.layer_norm.parameters():  # scores were all near 1
                parameter.mul_(0.15)
            model.bbox_embed[0].layers[-1].bias[2:] += 1  # boxes that reach over the border
    model.save_pretrained(folder)
    GroundingDinoProcessor(GroundingDinoImageProcessor(), BertTokenizer(vocab=vocabulary)).save_pretrained(
        folder
    )
    return folder


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """A picture of noise, another at every call."""
    return STREAM.integers(0, 256, (height, width, 3), dtype=np.uint8)
