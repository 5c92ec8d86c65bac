"""SAM checkpoints (Kirillov et al., arXiv 2304.02643) in the official form: a state dict in a `.pth` file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from components.models.weights.loading import WrongWeights, read_checkpoint, set_state
from components.models.weights.mixed_precision import run_in

DECODER_HEADS = 8  # of every published SAM; no tensor's shape tells


def load_sam(path: Path, device: str, dtype: torch.dtype) -> Sam:
    """The model of a checkpoint in evaluation mode; its encoder and mask decoder run in `dtype`, prompts and
    mask logits are float32. The stream of random numbers is as before.

    Raises WrongWeights for a file that is broken, holds code, or is not of a SAM.
    """
    state = read_checkpoint(path)
    with torch.random.fork_rng(devices=[]):
        try:
            sam = build_sam(state)
        except Exception as error:  # a foreign state trips over whatever comes first
            raise WrongWeights(f"weights {path}: not of a SAM: {error!r}") from error
    set_state(sam, state, path)
    sam.to(device).eval()
    run_in(sam.image_encoder, dtype)
    run_in(sam.mask_decoder, dtype)
    return sam


def build_sam(state: Mapping[str, Tensor]) -> Sam:
    """A model, with weights of its own, of the architecture that the shapes in a state dict tell: vit_b,
    vit_l, vit_h, or any other encoder with relative positions, which alone tell heads and windows.

    Raises KeyError and others for the state of another model.
    """
    embed_dim, _, patch_size, _ = state["image_encoder.patch_embed.proj.weight"].shape
    grid = state["image_encoder.pos_embed"].shape[1]
    relative = [state[f"{block}.attn.rel_pos_h"].shape for block in _blocks(state, "image_encoder.blocks")]
    sides = [(length + 1) // 2 for length, _ in relative]
    mlp_dim = state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]
    prompt_dim, mask_in_chans = state["prompt_encoder.mask_downscaling.6.weight"].shape[:2]
    encoder = ImageEncoderViT(
        img_size=grid * patch_size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depth=len(sides),
        num_heads=embed_dim // relative[0][1],
        mlp_ratio=mlp_dim / embed_dim,
        out_chans=state["image_encoder.neck.0.weight"].shape[0],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=next((side for side in sides if side != grid), 0),
        global_attn_indexes=tuple(block for block, side in enumerate(sides) if side == grid),
    )
    prompts = PromptEncoder(
        embed_dim=prompt_dim,
        image_embedding_size=(grid, grid),
        input_image_size=(encoder.img_size, encoder.img_size),
        mask_in_chans=mask_in_chans,
    )
    transformer = TwoWayTransformer(
        depth=len(_blocks(state, "mask_decoder.transformer.layers")),
        embedding_dim=prompt_dim,
        num_heads=DECODER_HEADS,
        mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
    )
    decoder = MaskDecoder(
        num_multimask_outputs=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        transformer=transformer,
        transformer_dim=prompt_dim,
        iou_head_hidden_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )
    return Sam(encoder, prompts, decoder)


def _blocks(state: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of the numbered modules below `prefix`."""
    start = prefix.count(".") + 1
    numbers = {int(name.split(".")[start]) for name in state if name.startswith(f"{prefix}.")}
    return [f"{prefix}.{number}" for number in sorted(numbers)]
