"""Which of two trials' explanations of an image a person prefers, without knowing whose is whose."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.evaluation.pictures import draw_evidence
from components.identity import rng
from grid.refused import Refused
from grid.results.store import ResultsStore
from grid.trials.finished import FinishedTrial

Choice = Literal["left", "right", "tie"]  # tie: the study's DISCORD


@dataclass(frozen=True)
class Pair:
    """An image, and the trials whose explanations of it stand left and right of it."""

    image_id: int
    left: FinishedTrial
    right: FinishedTrial


@dataclass(frozen=True)
class Study:
    """One rater's votes on the pairs of an experiment, in their order. Safe to use from threads."""

    experiment: str
    rater: str
    pairs: Sequence[Pair]
    results: ResultsStore

    def state(self) -> dict[str, Any]:
        """How far the rater is, and the pictures of the first pair without a vote, None after the last."""
        votes = self._votes()
        done = [pair for pair in self.pairs if str(pair.image_id) in votes]
        left = [pair for pair in self.pairs if str(pair.image_id) not in votes]
        shown = _shown(left[0]) if left else None
        return {"done": len(done), "total": len(self.pairs), "undo": bool(votes), "pair": shown}

    def vote(self, image_id: int, choice: str) -> None:
        """Stores a vote; it is in the results store when this returns. Refused if it is no Choice, or on
        an image that is not in the study or has the rater's vote."""
        if choice not in get_args(Choice):
            raise Refused(f"choice {choice!r}: one of {', '.join(get_args(Choice))}")
        pair = next((pair for pair in self.pairs if pair.image_id == image_id), None)
        if pair is None:
            raise Refused(f"image {image_id} is not in this study")
        vote = {
            "experiment": self.experiment,
            "image_id": str(image_id),
            "left_trial": pair.left.id,
            "right_trial": pair.right.id,
            "choice": choice,
            "voter": self.rater,
        }
        self.results.close()  # a new connection: into a file that was deleted one could write on unnoticed
        if not self.results.record_preference(vote):
            raise Refused(f"image {image_id} has a vote of {self.rater} already")

    def undo(self) -> None:
        """Removes the rater's last vote, so that its image comes next. Refused if there is none."""
        self.results.close()
        if not self.results.forget_last_preference(self.experiment, self._trials(), self.rater):
            raise Refused("no vote to undo")

    def _trials(self) -> tuple[str, str]:
        return self.pairs[0].left.id, self.pairs[0].right.id

    def _votes(self) -> set[str]:
        voted = self.results.preferences(self.experiment, self._trials(), self.rater)
        return {row["image_id"] for row in voted}


def pairs_of(a: FinishedTrial, b: FinishedTrial, split: str, n_images: int, rater: str) -> list[Pair]:
    """Of `n_images` images that both trials can explain, drawn once and for all: a smaller number's are among
    a larger one's. Each rater has an order of their own, and each trial left in half of it. Refused if there
    are no images."""
    both = np.intersect1d(a.data.usable_split(split).ids, b.data.usable_split(split).ids)
    if len(both) == 0:
        raise Refused(f"no image of the split {split} is explained by both {a.id} and {b.id}")
    a, b = sorted((a, b), key=lambda trial: trial.id)
    name = a.data.card.name
    drawn = rng(0, "preferences", name).permutation(len(both))[:n_images]
    order = rng(0, "preferences", name, a.id, b.id, rater)
    images, a_is_left = order.permutation(both[drawn]), order.permutation(len(drawn)) % 2 == 0
    sides = [(a, b) if a_left else (b, a) for a_left in a_is_left]
    return [Pair(int(image), *side) for image, side in zip(images, sides, strict=True)]


def _shown(pair: Pair) -> dict[str, Any]:
    (image,) = pair.left.data.images(np.array([pair.image_id]))
    sides = {side: _side(trial, pair.image_id, image) for side, trial in _sides(pair)}
    return {"image": pair.image_id, "photograph": _data_uri(image), **sides}


def _sides(pair: Pair) -> tuple[tuple[str, FinishedTrial], ...]:
    return ("left", pair.left), ("right", pair.right)


def _side(trial: FinishedTrial, image_id: int, image: NDArray[np.uint8]) -> dict[str, str]:
    """The evidence as a picture, and the class that it is for: in the same words whatever the method."""
    (explanation,) = trial.method.explain(trial.fitted, trial.data, [image_id])
    label = int(trial.method.predict(trial.fitted, trial.data, np.array([image_id]))[0].argmax())
    classes = trial.data.card.classes
    name = classes[label] if label < len(classes) else f"class {label}"
    return {"picture": _data_uri(draw_evidence(image, explanation)), "class": name}


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
