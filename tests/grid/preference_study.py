"""A small preference study whose explanations are known: of one trial in the left half of every image, of the
other in the right half. Whatever stands left on the page, its picture tells the test whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.card import load_card
from components.data.columns import Data, Ids
from components.data.images import ImageIndex
from components.method import LAST, Explanation, Fitted, Method
from grid.commands.preference import Study, pairs_of
from grid.results.store import ResultsStore, TrialEntry
from grid.trials.finished import FinishedTrial

EXPERIMENT = "study"
N_IMAGES = 8
SIZE = (30, 40)  # height and width
SLOW = 60  # seconds after which something hangs


@dataclass(frozen=True, kw_only=True)
class Given(Method):
    """All evidence lies in one half of the image; says class 0."""

    half: str

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        mask = np.zeros(SIZE, bool)
        mask[:, : SIZE[1] // 2] = True
        mask = mask if self.half == "left" else ~mask
        return [
            Explanation(i, f"told by {self.half}-heavy", mask[None], np.ones(1), ("heavy",))
            for i in image_ids
        ]

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return np.tile(np.array([1, 0], np.float32), (len(ids), 1))


class Explained:
    """A column that has these images only."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids


def two_trials(results: ResultsStore, explained: Ids | None = None) -> tuple[FinishedTrial, FinishedTrial]:
    """Both trials as they are opened, of the images beside the results store."""
    root = Path(str(results.url).removeprefix("sqlite:///")).parent
    n = N_IMAGES
    index = ImageIndex(
        root=root,
        image_ids=np.arange(n),
        paths=np.array([f"{i}.png" for i in range(n)], object),
        labels=np.zeros(n, np.int64),
        groups=np.zeros(n, np.int64),
        splits=np.array(["test"] * n, object),
        classes=("landbird", "waterbird"),
        group_names=("landbird",),
    )
    columns = {"ranking": Explained(np.arange(n) if explained is None else explained)}
    data = Data(load_card("toybirds"), index, columns)  # type: ignore[arg-type]
    halves = ("left", "right")
    a, b = (
        FinishedTrial(f"{half}-heavy", "given", Given(half=half), 0, Fitted(), data, {}) for half in halves
    )
    return a, b


def study_of(folder: Path) -> Study:
    """The study of rater ada in a results store of its own."""
    results = ResultsStore.open(f"sqlite:///{folder}/results.db")
    for i in range(N_IMAGES):
        stream = np.random.default_rng(i)
        pixels = stream.integers(0, 255, (SIZE[0] // 5, SIZE[1] // 5, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize(SIZE[::-1]).save(folder / f"{i}.png")
    launch = results.begin_launch(EXPERIMENT, spec="name: study", plan={}, command="test")
    a, b = two_trials(results)
    for trial in (a, b):
        entry = TrialEntry(
            id=trial.id, method="given", method_version=1, dataset="toybirds", data_fingerprint="f", seed=0,
            config={"half": trial.id},
        )  # fmt: skip
        results.enter(EXPERIMENT, [entry])
        results.claim(trial.id, launch)
    return Study(EXPERIMENT, "ada", pairs_of(a, b, "test", 100, "ada"), results)
