"""Small CLIPs of random weights as folders, and open_clip's own reading of them."""

import json

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file

TEXTS = ("a striped cat", "the sea", "a photo of a beak")
STREAM = np.random.default_rng(0)
IMAGES = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (40, 90), (200, 31))]

VIT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
PREPROCESSING = {
    "clip": {"mean": [0.48, 0.45, 0.40], "std": [0.26, 0.27, 0.28]},  # shortest and bicubic, unsaid
    "siglip": {**HALF, "resize_mode": "squash", "interpolation": "bicubic"},
    "bilinear": {**HALF, "resize_mode": "squash", "interpolation": "bilinear"},
    "filled": {**HALF, "resize_mode": "longest", "interpolation": "bicubic", "fill_color": 127},
}


def saved(folder, model_cfg=VIT, preprocess_cfg=PREPROCESSING["clip"], kind=CLIP):
    """A checkpoint folder of random weights."""
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = kind(**json.loads(json.dumps(model_cfg))).state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors"
    )
    configure(folder, model_cfg=model_cfg, preprocess_cfg=preprocess_cfg)
    return folder


def configure(folder, **config):
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def opened(folder, **options):
    """open_clip's own reading of a folder."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


def encoded(direct, images):
    clip, preprocess, _ = direct
    with torch.inference_mode():
        x = clip.encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in images]))
    return (x / x.norm(dim=-1, keepdim=True)).numpy()
