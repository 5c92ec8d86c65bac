"""What a plan consists of: distinct stages, and trials."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.data.images import ImageIndex
from components.identity import component_name, configuration
from components.method import Method
from components.stage import ColumnStage, Stage
from grid.inputs.datasets import Dataset
from grid.results.entry import TrialEntry
from grid.results.throughput import Unit, Work, without_seed
from grid.spec.block import Candidate

UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class PlannedStage:
    """A distinct stage: its key, the data set it reads (None: no images), and its inputs' keys by field.

    `unresolved` names what its key could not be made of; then the key stands for nothing in a store.
    """

    key: str
    stage: Stage
    dataset: Dataset | None
    inputs: Mapping[str, str]
    identity: Mapping[str, Any]
    unresolved: tuple[str, ...]

    @property
    def index(self) -> ImageIndex | None:
        """The images that a column stage is made of; None for tensor stages, and where they are not there."""
        if not isinstance(self.stage, ColumnStage) or self.dataset is None or self.dataset.index is None:
            return None
        sample = self.stage.sample
        return self.dataset.index if sample is None else sample.of(self.dataset.index)

    @property
    def images(self) -> int:
        """Images that the stage is made of; 0 for tensor stages."""
        index = self.index
        return 0 if index is None else len(index)

    @property
    def model_passes(self) -> int:
        """Images that a model reads."""
        return self.images if isinstance(self.stage, ColumnStage) and self.stage.PASSES_A_MODEL else 0

    def work(self, device: str) -> tuple[Work, int]:
        """What is to be done on this device, and how many units of it: 0 of images not there yet."""
        column, data = isinstance(self.stage, ColumnStage), self.dataset.name if self.dataset else None
        config = without_seed(self.identity["parameters"])
        unit: Unit = "image" if column else "run"
        work = Work(unit, self.stage.kind, device, config, self.identity["data"], data)
        return work, self.images if column else 1


@dataclass(frozen=True)
class PlannedTrial:
    """A trial: one method on one data set with one configuration and one seed. `stages`: keys by the
    method's names; `closure`: those and all that they read; `unresolved`: what its own models lack, whose
    weights it loads itself."""

    id: str
    candidate: Candidate
    dataset: Dataset
    seed: int
    config: Mapping[str, Any]
    stages: Mapping[str, str]
    closure: frozenset[str]
    unresolved: tuple[str, ...] = ()

    @property
    def method(self) -> Method:
        """The configured method."""
        return self.candidate.method

    @property
    def method_name(self) -> str:
        """The name of the method's file."""
        return component_name(self.method)

    def defaults(self) -> dict[str, Any]:
        """The method's own value of each knob that need not be given, nested knobs included."""
        fields = dataclasses.fields(self.method)
        needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
        own = type(self.method)(**{name: getattr(self.method, name) for name in needed})
        return {name: value for name, value in configuration(own).items() if name not in needed}

    def entry(self) -> TrialEntry:
        """What the results store keeps of it before it runs."""
        return TrialEntry(
            id=self.id,
            method=self.method_name,
            method_version=type(self.method).VERSION,
            dataset=self.dataset.name,
            data_fingerprint=self.dataset.fingerprint or UNRESOLVED,
            seed=self.seed,
            config=self.config,
            stages=self.stages,
            drawing=self.dataset.drawing,
            variant=self.candidate.variant,
            coupled=self.candidate.coupled,
        )

    def work(self, device: str) -> Work:
        """What it will take on this device."""
        row = self.entry()
        return Work("trial", row.method, device, row.config_id, row.data_fingerprint, row.dataset)
