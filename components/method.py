"""What a method is, and what it hands back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.stage import Stage

LAST = "last"  # selection: the weights after the last epoch

Report = Callable[..., None]  # report(step, **metrics)
Contributions = list[tuple[str, float]]  # what decided a prediction, and by how much; the strongest first
STRONGEST = 3  # contributions that a trial keeps of each image


@dataclass(frozen=True)
class Metric:
    """One number. `selection` says by which rule the weights were chosen; `step` is None for a result."""

    name: str
    value: float
    split: str
    group: str = "all"
    selection: str = LAST
    step: int | None = None


@dataclass(frozen=True)
class Explanation:
    """Evidence for one prediction: S regions with a weight each and a caption each.

    masks bool (S, H, W) of the image, or heatmaps float (S, h, w) of what the whole image shows; weights
    float (S,), larger is more evidence.
    """

    image_id: int
    title: str
    masks: NDArray[np.bool_] | NDArray[np.float32]
    weights: NDArray[np.floating[Any]]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A picture that a method draws itself. name: the file's, without its ending; pixels uint8 (H, W, 3).
    caption: a line, and beneath it, line by line, what the picture's numbers and panels stand for."""

    name: str
    pixels: NDArray[np.uint8]
    caption: str


@dataclass
class Fitted:
    """What fitting gives: tensors (saved as safetensors) and facts (plain JSON values)."""

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods; one file each in `components/studies/<study>/methods/`.

    VERSION is raised when the same configuration would give other numbers. TRAINING_COLUMNS: stages, by the
    method's names, that fitting alone reads; an image that has no row there can be classified all the same.
    """

    FOLDER: ClassVar[str] = "components.studies.*.methods"
    VERSION: ClassVar[int] = 1
    TRAINING_COLUMNS: ClassVar[frozenset[str]] = frozenset()

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        """What a trial reads, by the method's own names for it; no I/O. A trained classifier depends on
        the trial's seed, so it is given."""
        raise NotImplementedError

    def models(self, card: Card) -> dict[str, Any]:
        """What a trial itself loads with weights that no stage of its reads, by names of the method's own:
        dataclasses with a `checkpoint` somewhere in them. They are in the trial's identity as they are, with
        their weights by content. Empty for a method that only reads its stages."""
        return {}

    def validated(self, card: Card) -> Mapping[str, frozenset[str]] | None:
        """Every metric of the group `all` that it may report on the split `val`, by selection: what a search
        can go by. None where that is known only when a trial has run."""
        return None

    def at_steps(self) -> frozenset[str]:
        """What it reports after each step of a training in its trial, by which a scheduler may stop that.
        Empty where all training is in stages, or where steps are no progress."""
        return frozenset()

    def can_be_stopped_by(self, name: str) -> bool:
        """Whether this number is among `at_steps`."""
        return step_place(name) in map(step_place, self.at_steps())

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        """Fits on the training split; chooses among candidates by the validation split only."""
        raise NotImplementedError

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        """Logits (n, C) of usable images."""
        raise NotImplementedError

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        """All results on the splits `val` and `test`."""
        raise NotImplementedError

    def warnings(self, metrics: Sequence[Metric]) -> list[str]:
        """What a reader of the trial's numbers must know, beside what its stages warn of. `metrics` are what
        `evaluate` gave. It is shown wherever the trial is."""
        return []

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        """Evidence for these images; empty where the method has none."""
        return []

    def contributions(self, fitted: Fitted, data: Data, ids: Ids) -> list[Contributions]:
        """What `explain` says first of each of these usable images, in words, at most STRONGEST terms:
        without pictures it costs little, and a trial keeps it of all of them. Empty where there is none."""
        return [[] for _ in ids]

    def pictures(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Picture]:
        """Pictures beside the explanations: of the model, of these images, of others that the method wants
        shown; empty where it has none."""
        return []

    def files(self, fitted: Fitted, data: Data) -> dict[str, str]:
        """Texts that a trial leaves for its reader, by file name; empty where it has none."""
        return {}


def step_place(name: str) -> tuple[str, str]:
    """Metric and split of what is reported by this name at a step: `val_average_accuracy` is
    `average_accuracy` on the split `val`; without a split in its name, it is of training."""
    split, _, rest = name.partition("_")
    return (rest, split) if split in {"train", "val"} and rest else (name, "train")
