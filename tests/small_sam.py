"""SAMs of a few hundred kilobytes, with random weights of a fixed seed, saved in the genuine formats; and
photographs with boxes."""

import json
from functools import partial

import numpy as np
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2Processor,
    Sam2PromptEncoderConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
)

from components.data.images import decode

SIDE, PATCH, WIDTH = 128, 8, 32
GRID = SIDE // PATCH
GAIN = 2.0


def sam():
    """As `segment_anything.build_sam` builds its three, with other numbers: windowed and global blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = ImageEncoderViT(
            img_size=SIDE,
            patch_size=PATCH,
            embed_dim=24,
            depth=3,
            num_heads=4,
            mlp_ratio=2,
            out_chans=WIDTH,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=5,
            global_attn_indexes=(1,),
        )
        prompts = PromptEncoder(
            embed_dim=WIDTH, image_embedding_size=(GRID, GRID), input_image_size=(SIDE, SIDE), mask_in_chans=8
        )
        transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=48, num_heads=8)
        decoder = MaskDecoder(
            num_multimask_outputs=3, transformer=transformer, transformer_dim=WIDTH, iou_head_hidden_dim=40
        )
        model = Sam(encoder, prompts, decoder, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
        _stir(model)
        for head in decoder.output_hypernetworks_mlps:  # masks that leave out most of the image
            head.layers[-1].bias.data -= 3
    return model.eval()


def save_sam(path):
    torch.save(sam().state_dict(), path)
    return str(path)


def sam2_configs():
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
        image_size=[SIDE, SIDE],
        window_positional_embedding_background_size=[4, 4],
    )
    return {
        "vision_config": Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
            fpn_hidden_size=WIDTH,
        ),
        "prompt_encoder_config": Sam2PromptEncoderConfig(hidden_size=WIDTH, image_size=SIDE, patch_size=16),
        "mask_decoder_config": Sam2MaskDecoderConfig(
            hidden_size=WIDTH, mlp_dim=48, num_attention_heads=4, iou_head_hidden_dim=32
        ),
    }


def save_sam2(folder, video=False):
    """Model and processor. video: as the published checkpoints are, a model of videos."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if video:
            model = Sam2VideoModel(
                Sam2VideoConfig(
                    **sam2_configs(),
                    image_size=SIDE,
                    memory_attention_hidden_size=WIDTH,
                    memory_attention_num_layers=1,
                    memory_attention_feed_forward_hidden_size=32,
                    memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
                    memory_encoder_hidden_size=WIDTH,
                    memory_encoder_output_channels=16,
                    mask_downsampler_embed_dim=WIDTH,
                    memory_fuser_embed_dim=WIDTH,
                    memory_fuser_intermediate_dim=32,
                )
            )
        else:
            model = Sam2Model(Sam2Config(**sam2_configs()))
        _stir(model)
    model.save_pretrained(folder)
    Sam2Processor(Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})).save_pretrained(folder)
    return str(folder)


def boxed_photographs(test_data):
    """Pairs of an image and boxes float32 (S, 4), x0 y0 x1 y1: the true ones of COCO, and drawn ones."""
    root = test_data("seg-mini")
    truth = json.loads((root / "instances.json").read_text())
    pairs = []
    for told in truth["images"][:2]:
        boxes = np.array([a["bbox"] for a in truth["annotations"] if a["image_id"] == told["id"]], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        pairs.append((decode(root / told["file_name"]), boxes))
    stream = np.random.default_rng(0)
    for path in sorted((test_data("imagenet-mini") / "images").iterdir())[:2]:
        image = decode(path)
        corners = stream.uniform(0, 1, (5, 2, 2)) * (image.shape[1], image.shape[0])
        pairs.append((image, np.sort(corners, axis=1).reshape(5, 4).astype(np.float32)))
    return pairs


def _stir(model):
    """Initial weights are small and positions start at zero: masks would hardly depend on image or prompt."""
    for name, parameter in model.named_parameters():
        if "embed" in name or "token" in name or "rel_pos" in name:
            nn.init.normal_(parameter)
        elif parameter.ndim > 1:
            nn.init.normal_(parameter, std=GAIN * parameter[0].numel() ** -0.5)
