"""The small SAM: `segment_anything`'s classes with small numbers, and the file they are kept in."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from components.models.segmentation.sam.sam_checkpoint import DECODER_HEADS

IMAGE_SIZE, PATCH_SIZE = 64, 4  # pixels: masks come at 4 · 64 / 4, every pixel of the image
GRID = IMAGE_SIZE // PATCH_SIZE
ENCODER_WIDTH, DEPTH, HEADS = 96, 3, 4
WINDOW, GLOBAL_BLOCKS = 8, (1,)  # the other blocks see windows of 8 by 8 patches
PROMPT_WIDTH, DECODER_MLP = 64, 256
FREQUENCIES = (1 / 8, 4)  # lowest and highest of coordinates, in cycles per half of the image


def untrained_sam(seed: int) -> Sam:
    """A SAM with random weights that depend on the seed alone, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ImageEncoderViT(
            img_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            embed_dim=ENCODER_WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            out_chans=PROMPT_WIDTH,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=WINDOW,
            global_attn_indexes=GLOBAL_BLOCKS,
        )
        prompts = PromptEncoder(
            embed_dim=PROMPT_WIDTH,
            image_embedding_size=(GRID, GRID),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        )
        transformer = TwoWayTransformer(
            depth=2, embedding_dim=PROMPT_WIDTH, num_heads=DECODER_HEADS, mlp_dim=DECODER_MLP
        )
        decoder = MaskDecoder(
            transformer=transformer, transformer_dim=PROMPT_WIDTH, iou_head_hidden_dim=DECODER_MLP
        )
        prompts.pe_layer.positional_encoding_gaussian_matrix.copy_(_axes())
        return Sam(encoder, prompts, decoder)


def _axes() -> Tensor:
    """Frequencies (2, PROMPT_WIDTH / 2) of x and y for the encoding of positions, as float16 holds them.

    Half of them are of x alone and half of y alone, the lowest rising from edge to edge: whether a pixel lies
    in a box is a matter of each axis. The library's random directions mix both; with them and an AREA of 32,
    unclipped, 80 steps of prompts gave empty masks alone.
    """
    frequencies = torch.from_numpy(np.geomspace(*FREQUENCIES, PROMPT_WIDTH // 4)).half().float()
    return torch.block_diag(frequencies, frequencies)


def save_sam(sam: Sam, path: Path) -> None:
    """Write the official form, a state dict, as float16."""
    torch.save({name: tensor.half() for name, tensor in sam.state_dict().items()}, path)
