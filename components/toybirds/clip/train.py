"""Train the small CLIP of the toy birds: `python -m components.toybirds.clip.train`.

Draws its own birds (places balanced, seeds that no experiment uses), trains on half red-circled,
a quarter plain and a quarter cut-out views, keeps the weights that are best on a validation split
and writes an open_clip folder (`local-dir:PATH`) with the scores on birds of a third data set.
With `--views plain` it makes the control, which sees whole images without a mark and nothing else.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional

from components.identity import rng
from components.toybirds.birds import HELD_OUT_DATA_SEED, Birds, draw_birds
from components.toybirds.clip.captions import (
    PHRASINGS,
    Example,
    all_true,
    red_circle,
    segment_crop,
    whole_image,
)
from components.toybirds.clip.scores import OF_WHOLE_IMAGES, scores
from components.toybirds.clip.training import TrainedClip, load_clip
from components.toybirds.clip.views import caption

LEARNING_RATE = 3e-3
CONCEPTS = Path("datasets/toybirds/concepts.txt")
BATCHES = {
    "mixed": {red_circle: 64, whole_image: 32, segment_crop: 32},
    "plain": {whole_image: 128},
}
FOLDERS = {"mixed": Path("datasets/toybirds/clip"), "plain": Path("datasets/toybirds/clip_plain")}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "test_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
PREPROCESS = {"mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "squash"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--views", choices=sorted(BATCHES), default="mixed")
    parser.add_argument("--out", type=Path, help="where to write; by default, where the views' model ships")
    arguments = parser.parse_args()
    out = arguments.out or FOLDERS[arguments.views]
    concepts = CONCEPTS.read_text(encoding="utf-8").splitlines()
    train, val, held_out = draw_birds(4000, 100, 300)
    clip = _untrained(arguments.seed)
    start = time.monotonic()
    step = train_clip(clip, train, val, concepts, arguments.steps, arguments.seed, arguments.views)
    print(f"trained for {time.monotonic() - start:.0f} s; best after {step} steps")
    save(clip, out)
    measured = scores(load_clip(out), held_out, concepts)
    record = {
        "seed": arguments.seed,
        "steps": step,
        "data_seed": HELD_OUT_DATA_SEED,
        "scores": {name: asdict(score) for name, score in measured.items()},
    }
    (out / "scores.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def _untrained(seed: int) -> TrainedClip:
    with torch.random.fork_rng():  # open_clip draws the first weights from the global generator
        torch.manual_seed(seed)
        model = open_clip.CLIP(**MODEL)
    model = model.to(memory_format=torch.channels_last)  # a third faster
    return TrainedClip(model, open_clip.SimpleTokenizer(context_length=32), MEAN, STD)


def train_clip(
    clip: TrainedClip,
    train: Birds,
    val: Birds,
    concepts: Sequence[str],
    steps: int,
    seed: int,
    views: str = "mixed",
) -> int:
    """Train in place on these views (of BATCHES); returns the step of the weights kept, which have the best
    mean validation score of what the views teach."""
    random = rng(seed, "toybirds_clip", "batches")
    weights = clip.model.parameters()
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    prompts = sorted(frozenset().union(*(all_true(train, i) for i in range(len(train)))))
    best: tuple[float, int, dict[str, torch.Tensor]] = (-1.0, 0, {})
    for step in range(1, steps + 1):
        loss = contrastive_loss(clip, draw_batch(train, views, random), prompts)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        clip.model.logit_scale.data.clamp_(0, np.log(100))
        if step % 250 == 0 or step == steps:
            value = validate(clip, val, concepts, views, step, loss.item())
            if value > best[0]:
                best = value, step, {k: v.clone() for k, v in clip.model.state_dict().items()}
    clip.model.load_state_dict(best[2])
    _silence_other_words(clip, train, prompts)
    return best[1]


def _silence_other_words(clip: TrainedClip, birds: Birds, prompts: Sequence[str]) -> None:
    """A word that no caption has would be noise: its embedding becomes zero."""
    said = [*PHRASINGS, *prompts, *(caption(shown) for shown in birds.shown)]
    unheard = torch.ones(MODEL["text_cfg"]["vocab_size"], dtype=torch.bool)
    unheard[clip.tokenizer(said)] = False
    clip.model.token_embedding.weight.data[unheard] = 0


def draw_batch(birds: Birds, views: str, random: np.random.Generator) -> list[Example]:
    """Captioned views of random birds, as many of each kind as BATCHES says."""
    return [
        sample(birds, int(i), random)
        for sample, n in BATCHES[views].items()
        for i in random.integers(0, len(birds), n)
    ]


def contrastive_loss(clip: TrainedClip, examples: list[Example], prompts: Sequence[str]) -> torch.Tensor:
    """CLIP's loss among the batch, and between its images and every phrase of the captions.

    The target is shared among all texts that are true of an image. Without the second term the
    attributes that one sees last (beak, neck, tail, feet) are not told apart in this time.
    """
    image = clip.embed(np.stack([example.image for example in examples]))
    texts = [*(example.text for example in examples), *prompts]
    text = clip.model.encode_text(clip.tokenizer(texts), normalize=True)
    says = [*(example.says for example in examples), *(frozenset({p}) for p in prompts)]
    true = torch.tensor([[said <= example.shows for said in says] for example in examples]).float()
    logits = clip.model.logit_scale.exp() * image @ text.T
    n = len(examples)
    return _matching(logits[:, :n], true[:, :n]) + _matching(logits[:, n:], true[:, n:])


def _matching(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross-entropy by image (rows) and by text; a phrase may be true of no image in the batch."""
    by_image = functional.cross_entropy(logits, true / true.sum(1, keepdim=True))
    by_text = functional.cross_entropy(logits.T, (true / true.sum(0).clamp(min=1)).T)
    return (by_image + by_text) / 2


def validate(
    clip: TrainedClip, birds: Birds, concepts: Sequence[str], views: str, step: int, loss: float
) -> float:
    """The mean score of what the views teach, which chooses the weights; all scores are printed."""
    clip.model.eval()
    measured = scores(clip, birds, concepts)
    clip.model.train()
    shown = "  ".join(f"{name} {score.value:.2f}" for name, score in measured.items())
    print(f"step {step}  loss {loss:.3f}  {shown}", flush=True)
    taught = OF_WHOLE_IMAGES if views == "plain" else measured
    return float(np.mean([measured[name].value for name in taught]))


def save(clip: TrainedClip, folder: Path) -> None:
    """Write the folder that open_clip loads as `local-dir:FOLDER`; weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in clip.model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    main()
