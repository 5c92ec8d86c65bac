"""Train the small GroundingDINO of the toy birds: `python -m components.toybirds.detector.train`.

Draws its own birds (places balanced, parts hardly correlated, seeds that no experiment uses), teaches the
image side cell by cell and then the whole on prompts, keeps the weights that are best on a validation split
and writes a folder of transformers' form (`detector: {name: grounding_dino, checkpoint: PATH, shortest_edge:
64, longest_edge: 64}`) with the scores on birds of a third data set. About 40 minutes on one thread.
"""

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.toybirds.birds import HELD_OUT_DATA_SEED, Birds, draw_birds
from components.toybirds.clip.train import CONCEPTS
from components.toybirds.detector.architecture import IMAGE_SIZE, processor, save, untrained
from components.toybirds.detector.prompts import BIRD
from components.toybirds.detector.scores import ConceptScore, scores, summary
from components.toybirds.detector.training import Lessons, Training

FOLDER = Path("datasets/toybirds/grounding_dino")
ALL, ALONE = "all_in_one_prompt", "one_concept_per_prompt"
VALIDATED, EVERY = 60, 750  # birds, and steps between validations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=1000, help="steps of the first part")
    parser.add_argument("--steps", type=int, default=3500, help="steps of the second part")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    concepts = [*CONCEPTS.read_text(encoding="utf-8").splitlines(), BIRD]
    train, val, held_out = drawn(16000, 400, 1000)
    start = time.monotonic()
    steps = arguments.cells, arguments.steps
    step = train_detector(train, val, concepts, steps, arguments.seed, arguments.out)
    print(f"trained for {time.monotonic() - start:.0f} s; best after {step} steps")
    record = {
        "seed": arguments.seed,
        "cells": arguments.cells,
        "steps": step,
        "data_seed": HELD_OUT_DATA_SEED,
        "n": len(held_out),
        **measure(arguments.out, held_out, concepts),
    }
    (arguments.out / "scores.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def drawn(n_train: int, n_val: int, n_test: int) -> tuple[Birds, Birds, Birds]:
    """The birds to train on, to select on and to measure on, the parts of all hardly correlated."""
    apart = {"correlation": 0.5, "typical": 0.5001}
    return draw_birds(n_train, n_val, n_test, training=apart, held_out=apart)


def train_detector(
    train: Birds, val: Birds, concepts: list[str], steps: tuple[int, int], seed: int, out: Path
) -> int:
    """`steps` of the first and the second part. Writes the weights with the best validation score to `out`;
    returns their step."""
    prepare = processor(concepts)
    model = untrained(len(prepare.tokenizer), seed)
    training = Training(model, prepare, concepts, seed)
    lessons = Lessons.of(train, concepts)
    few = val.select(np.arange(min(VALIDATED, len(val))))
    best = -1.0, 0

    def watch(step: int) -> None:
        nonlocal best
        if step % EVERY and step != steps[1]:
            return
        with tempfile.TemporaryDirectory() as folder:
            save(model, prepare, Path(folder))
            value = validate(Path(folder), few, concepts, step)
            if value > best[0]:
                best = value, step
                shutil.copytree(folder, out, dirs_exist_ok=True)

    training.learn_cells(lessons, steps[0])
    training.learn_prompts(lessons, steps[1], watch)
    return best[1]


def validate(folder: Path, birds: Birds, concepts: list[str], step: int) -> float:
    """The mean of recall and AUC of both ways of asking."""
    measured = measure(folder, birds, concepts)
    values = {way: measured[way]["summary"] for way in (ALONE, ALL)}
    print(f"step {step}", *(f"{way} {value}" for way, value in values.items()), flush=True)
    return float(np.mean([value[name] for value in values.values() for name in ("part_recall", "auc")]))


def measure(folder: Path, birds: Birds, concepts: list[str]) -> dict[str, Any]:
    """Scores of the folder as the product loads it, in both ways of asking."""
    measured = {}
    for way, per_prompt in ((ALONE, 1), (ALL, len(concepts))):
        found = scores(detector(folder, per_prompt).load("cpu"), birds, concepts)
        measured[way] = {
            "summary": {name: round(value, 4) for name, value in summary(found).items()},
            "concepts": {concept: _rounded(score) for concept, score in found.items()},
        }
    return measured


def detector(folder: Path, per_prompt: int) -> GroundingDino:
    """The detector as a spec names it, with every box kept."""
    return GroundingDino(
        checkpoint=str(folder.resolve()),
        shortest_edge=IMAGE_SIZE,
        longest_edge=IMAGE_SIZE,
        concepts_per_prompt=per_prompt,
        stored_threshold=0.0,
    )


def _rounded(score: ConceptScore) -> dict[str, float | None]:
    return {name: value if value is None else round(value, 4) for name, value in asdict(score).items()}


if __name__ == "__main__":
    main()
