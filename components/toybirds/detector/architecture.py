"""The small GroundingDINO: its parts, its first weights, and the folder that it is saved to.

The network is the one of transformers at a smaller size, so that the folder is loaded as a published one is.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    RTDetrResNetConfig,
)
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoFrozenBatchNorm2d

IMAGE_SIZE = 64
WIDTH = 64  # of queries and tokens; a multiple of 32, the groups of the input's normalisation
BACKBONE: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_sizes": [64, 128],
    "depths": [2, 2],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2"],
}
APART = 3.0  # in deviations of the signal, or more
FIRST_WORD = 1030  # after the full stop's 1012 and the question mark's 1029, as in bert-base-uncased
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}


def processor(phrases: list[str]) -> Any:
    """Image processor and tokenizer; a word that is in none of `phrases` is [UNK].

    The model's code knows [CLS], [SEP], the full stop and the question mark by the numbers that they have in
    bert-base-uncased, so the numbers between are taken by tokens that nothing is coded as.
    """
    words = sorted({word for phrase in phrases for word in phrase.split()})
    tokens = SPECIAL | {word: FIRST_WORD + place for place, word in enumerate(words)}
    taken = set(tokens.values())
    tokens |= {f"[unused{i}]": i for i in range(max(taken)) if i not in taken}
    edges = {"shortest_edge": IMAGE_SIZE, "longest_edge": IMAGE_SIZE}
    return GroundingDinoProcessor(GroundingDinoImageProcessor(size=edges), BertTokenizer(vocab=tokens))


def configuration(vocabulary_size: int) -> Any:
    """Maps of 16 x 16 and 8 x 8 cells. A stem of three convolutions sees feet and stripes at half the image's
    resolution before it is quartered."""
    return GroundingDinoConfig(
        backbone_config=RTDetrResNetConfig(**BACKBONE),
        text_config=BertConfig(
            vocab_size=vocabulary_size,
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=96,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        d_model=WIDTH,
        num_feature_levels=2,
        num_queries=30,
        max_text_len=96,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        dropout=0.0,
        fusion_droppath=0.0,
    )


def untrained(vocabulary_size: int, seed: int) -> Any:
    """The network at its start, with batch normalisation that learns.

    As built, logits are in the hundreds. Here texts are short vectors along which every query begins with a
    logit of -3: nothing is there.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GroundingDinoForObjectDetection(configuration(vocabulary_size))
    texts = model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    nn.init.constant_(texts.weight, 0.1)
    nn.init.constant_(texts.bias, 6 / WIDTH)
    for queries in (model.model.enc_output_norm, model.model.decoder.layer_norm):
        nn.init.constant_(queries.bias, -0.5)
    for projection, norm in model.model.input_proj_vision:
        _let_through(projection, norm)
    _unfreeze(model.model.backbone)
    return model


@torch.no_grad()
def _let_through(projection: Any, norm: Any) -> None:
    """Begin with a normalisation that keeps what is the same in all of an image, as colours and fog are.

    It takes mean and deviation over the image out of every 2 channels. Where constants put one of the two far
    above nothing and the other far below, these decide both statistics, and the signal passes as it is. A
    precaution: after 200 steps of cells, attributes were told as well without it.
    """
    sign = torch.tensor([1.0, -1.0]).repeat(WIDTH // 2)
    projection.bias.copy_(APART * sign)
    norm.weight.fill_(APART)
    norm.bias.copy_(-APART * sign)


def _unfreeze(backbone: nn.Module) -> None:
    """transformers freezes a ResNet, which it takes to be pretrained."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if isinstance(child, GroundingDinoFrozenBatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(len(child.weight)))
    backbone.requires_grad_(True)


def save(model: Any, prepare: Any, folder: Path) -> None:
    """Write the folder that `GroundingDino(checkpoint=...)` loads; weights as float16, statistics frozen."""
    frozen = GroundingDinoForObjectDetection(model.config)
    frozen.load_state_dict(model.state_dict())
    frozen.half().save_pretrained(folder)
    prepare.save_pretrained(folder)
