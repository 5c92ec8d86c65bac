"""Checkpoints of CLIP as open_clip keeps them: which weights, which architecture, which preprocessing.

Reading a config and preparing an image needs neither torch nor the weights.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.images import MAX_PIXELS
from components.models.weights.checkpoints import MissingWeights, find_checkpoint

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER = "tokenizer.json"
ASK = f"put the {CONFIG} of these weights beside them"
PUBLISHED = ("mean", "std", "interpolation", "resize_mode")
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """A model's own preprocessing, as its config has it. mean, std: of pixels in [0, 1], per channel;
    interpolation: bilinear or bicubic; resize_mode: shortest, longest or squash.

    Called with an image uint8 (H, W, 3), it does all that comes before the normalisation: resizing, then
    cropping (`shortest`) or filling (`longest`), to uint8 (size, size, 3). An image of that size stays as it
    is. Equal to open_clip's own transform, pixel for pixel.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill_color: int = 0

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """ValueError for an image so narrow that nothing of it, or too much, would be left."""
        height, width = self._resized_shape(*image.shape[:2])
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise ValueError(
                f"{image.shape[1]}x{image.shape[0]} pixels: too narrow for this model's preprocessing"
            )
        if image.shape[:2] != (height, width):
            resized = Image.fromarray(image).resize((width, height), RESAMPLING[self.interpolation])
            image = np.asarray(resized)
        if (height, width) == (self.size, self.size):
            return image
        return self._filled(image) if self.resize_mode == "longest" else self._cropped(image)

    def _resized_shape(self, height: int, width: int) -> tuple[int, int]:
        if self.resize_mode == "squash":
            return self.size, self.size
        if self.resize_mode == "longest":
            ratio = max(height, width) / self.size
            return round(height / ratio), round(width / ratio)
        longest = int(self.size * max(height, width) / min(height, width))
        return (self.size, longest) if height <= width else (longest, self.size)

    def _cropped(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        top, left = (round((side - self.size) / 2) for side in image.shape[:2])
        return image[top : top + self.size, left : left + self.size]

    def _filled(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        top, left = (self.size - height) // 2, (self.size - width) // 2
        filled = np.full((self.size, self.size, 3), self.fill_color, np.uint8)
        filled[top : top + height, left : left + width] = image
        return filled


@dataclass(frozen=True)
class ClipFormat:
    """A checkpoint on disk. weights: the file with the tensors; model: open_clip's `model_cfg`."""

    weights: Path
    model: Mapping[str, Any]
    preprocess: Preprocess

    @property
    def text(self) -> Mapping[str, Any]:
        """Of the text tower."""
        text: Mapping[str, Any] = self.model["text_cfg"]
        return text


def read_format(checkpoint: str, architecture: str | None) -> ClipFormat:
    """The folder or single weights file called `checkpoint`, without its weights.

    Raises MissingWeights if it is not there, ValueError if its architecture or preprocessing is not known.
    """
    weights = _weights(find_checkpoint(checkpoint))
    try:
        config = _config(weights.parent / CONFIG)
        if architecture is None and not {"model_cfg", "preprocess_cfg"} <= config.keys():
            raise ValueError(f"architecture or preprocessing is not said: {ASK}, or give `architecture`")
        model = config.get("model_cfg") or _published_model(str(architecture))
        preprocess = config.get("preprocess_cfg") or _published_preprocess(str(architecture), model)
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - model.keys() | {"mean", "std"} - preprocess.keys()
        if missing:
            raise ValueError(f"{CONFIG} lacks {', '.join(sorted(missing))}")
        size = model["vision_cfg"].get("image_size", 224)
        return ClipFormat(weights, model, _preprocess(preprocess, size))
    except (ValueError, TypeError, AttributeError) as error:  # the last two where it is no table
        raise ValueError(f"weights {weights}: {error}") from error


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    for name in WEIGHTS:
        if (path / name).is_file() and (path / CONFIG).is_file():
            return path / name
    raise MissingWeights(f"weights {path}: the folder lacks {CONFIG}, or {' and '.join(WEIGHTS)}")


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{CONFIG} is not JSON: {error}") from error
    return config


def _preprocess(config: Mapping[str, Any], size: Any) -> Preprocess:
    height, width = size if isinstance(size, Sequence) else (size, size)
    if height != width:
        raise ValueError(f"a CLIP whose input is not square ({size}) is not supported")
    mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
    interpolation = config.get("interpolation") or "bicubic"  # what is not said is as in open_clip
    resize_mode = config.get("resize_mode") or "shortest"
    if interpolation not in RESAMPLING or resize_mode not in ("shortest", "longest", "squash"):
        raise ValueError(f"unknown preprocessing: {interpolation=}, {resize_mode=}")
    return Preprocess(int(height), mean, std, interpolation, resize_mode, config.get("fill_color") or 0)


def _published_model(architecture: str) -> dict[str, Any]:
    import open_clip

    model: dict[str, Any] | None = open_clip.get_model_config(architecture)
    if model is None:
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        raise ValueError(
            f"open_clip has no architecture {architecture!r}; close: {', '.join(close) or 'none'}"
        )
    return model


def _published_preprocess(architecture: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """That of the architecture's published weights, if they all have the same: a file does not say which
    preprocessing its weights were trained with, and open_clip would silently take its default (its issue
    1068). No more does it say its activation, so some must have been published with this one."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    published = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    kinds = {tuple(config.get(name) for name in PUBLISHED) for config in published}
    if len(kinds) != 1:
        raise ValueError(
            f"the published weights of {architecture} have {len(kinds)} kinds of preprocessing: {ASK}"
        )
    if not any(bool(config.get("quick_gelu")) == bool(model.get("quick_gelu")) for config in published):
        raise ValueError(f"no published weights of {architecture} have its activation (quick_gelu): {ASK}")
    return dict(zip(PUBLISHED, kinds.pop(), strict=True))


def build_model(checkpoint: ClipFormat) -> Any:
    """open_clip's model of this architecture, in evaluation mode, with random weights: nothing is fetched.

    Raises ValueError if open_clip cannot build it.
    """
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    config = deepcopy(dict(checkpoint.model))
    if ":" in (config["vision_cfg"].get("timm_model_name") or ""):
        raise ValueError(
            f"weights {checkpoint.weights}: the image tower is to be fetched from a hub, which is refused"
        )
    config["vision_cfg"]["timm_model_pretrained"] = False
    own_text = config.pop("custom_text", False)
    if config["text_cfg"].get("hf_model_name"):
        own_text = True
        # transformers' own config of the text tower lies beside the weights, as `config.json`
        config["text_cfg"] |= {"hf_model_name": str(checkpoint.weights.parent), "hf_model_pretrained": False}
    try:
        model = (CoCa if "multimodal_cfg" in config else CustomTextCLIP) if own_text else CLIP
        return model(**config).eval()
    except Exception as error:  # whatever a tower's constructor makes of a wrong value
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"weights {checkpoint.weights}: open_clip cannot build the model: {reason}"
        ) from error


def build_tokenizer(checkpoint: ClipFormat) -> Any:
    """open_clip's tokenizer of this model; ValueError if its file is not beside the weights."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text, folder = checkpoint.text, checkpoint.weights.parent
    options = {
        **(text.get("tokenizer_kwargs") or {}),
        "context_length": text.get("context_length", DEFAULT_CONTEXT_LENGTH),
    }
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(**options)
    if not (folder / TOKENIZER).is_file():
        raise ValueError(f"no {TOKENIZER} of {text['hf_tokenizer_name']} in {folder}, which its model needs")
    safe = {"local_files_only": True, "trust_remote_code": False}
    return HFTokenizer(str(folder), tokenizer_mode=text.get("tokenizer_mode"), **{**options, **safe})


def token_counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens that each text takes, with those that open and close it: open_clip cuts without a word."""
    from open_clip.tokenizer import HFTokenizer

    if not isinstance(tokenizer, HFTokenizer):
        return [len(tokenizer.encode(text)) + 2 for text in texts]
    marks = 3 if tokenizer.tokenizer_mode == "clips" else 0  # which open_clip adds itself
    cleaned = [tokenizer.clean_fn(text) for text in texts]
    ids = tokenizer.tokenizer(cleaned, add_special_tokens=not marks).input_ids
    return [len(of_text) + marks for of_text in ids]
