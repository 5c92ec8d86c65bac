"""Train the small SAM of the toy birds: `python -m components.toybirds.sam.train`.

Draws its own birds (places balanced, parts at random, seeds that no experiment uses). The image encoder first
learns to name every pixel's part alone, which is cheap; then boxes and points are asked of it. Keeps the
weights that are best on a validation split and writes an official SAM file, as float16, with the scores on
birds of a third data set. One thread; the time is printed.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.identity import rng
from components.toybirds.birds import HELD_OUT_DATA_SEED, Birds, draw_birds
from components.toybirds.sam.architecture import save_sam
from components.toybirds.sam.prompts import draw_prompts
from components.toybirds.sam.scores import answers_to_boxes, calibration_error, means, scores
from components.toybirds.sam.training import TrainedSam

STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, CLIP = 3000, 8, 2.5e-3, 0.05, 1.0
ENCODER_ONLY = 0.42  # the share of steps before there are prompts: a fifth of the time
VALIDATE_EVERY = 300
FOLDER = Path("datasets/toybirds/sam")
WEIGHTS, SCORES = "sam.pth", "scores.json"
AUTOMATIC_BIRDS = 200  # of the birds that are measured: each takes half a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, val, held_out = draw_birds(8000, 200, 1000, training={"typical": 0.5})
    start = time.process_time()
    sam = TrainedSam(arguments.seed)
    step = train_sam(sam, train, val, arguments.steps, arguments.seed)
    print(f"trained for {time.process_time() - start:.0f} s of one CPU; best after {step} steps")
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / WEIGHTS
    save_sam(sam.sam, checkpoint)
    record = {
        "seed": arguments.seed,
        "steps": step,
        "data_seed": HELD_OUT_DATA_SEED,
        **scores(checkpoint, held_out, AUTOMATIC_BIRDS),
    }
    (arguments.out / SCORES).write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def train_sam(sam: TrainedSam, train: Birds, val: Birds, steps: int, seed: int) -> int:
    """Train in place, keep the weights with the best mean validation IoU; returns their step."""
    random = rng(seed, "toybirds_sam", "batches")
    images, parts = torch.from_numpy(train.images).permute(0, 3, 1, 2), torch.from_numpy(train.parts)
    optimiser = torch.optim.AdamW(sam.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.1)
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
    for step in range(1, steps + 1):
        rows = torch.from_numpy(random.integers(0, len(train), BATCH))
        mirrored = torch.from_numpy(random.random(BATCH) < 0.5)[:, None, None]
        seen = torch.where(mirrored[:, None], images[rows].flip(-1), images[rows])
        where = torch.where(mirrored, parts[rows].flip(-1), parts[rows])
        asked = step > ENCODER_ONLY * steps
        prompts = [draw_prompts(shown, random) for shown in where.numpy()] if asked else []
        loss = sam.loss(seen, where, prompts)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(sam.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        if asked and (step % VALIDATE_EVERY == 0 or step == steps):
            value = _validate(sam, val, step, loss.item())
            if value > best[0]:
                best = value, step, {k: v.clone() for k, v in sam.state_dict().items()}
    sam.load_state_dict(best[2])
    return best[1]


def _validate(sam: TrainedSam, birds: Birds, step: int, loss: float) -> float:
    """Mean IoU over the kinds, of the weights as they would ship."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / WEIGHTS
        save_sam(sam.sam, checkpoint)
        answers = answers_to_boxes(checkpoint, birds)
    shown = "  ".join(f"{kind} {value:.3f}" for kind, value in means(answers.iou).items())
    print(
        f"step {step}  loss {loss:.3f}  {shown}  calibration {calibration_error(*answers.pooled()):.3f}",
        flush=True,
    )
    return float(np.mean([iou.mean() for iou in answers.iou.values()]))


if __name__ == "__main__":
    main()
