"""What stages and trials took, and what others will take that are like them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from grid.results.schema import Stage, Trial

Unit = Literal["image", "run", "trial"]
Alike = tuple[str | int | None, ...]


@dataclass(frozen=True)
class Work:
    """What takes seconds, by the `unit`: images of a stage, runs of a stage that makes tensors, or trials.

    kind: of the stage, or the trial's method; device: `cpu` or `cuda`; config: the same for all seeds of a
    configuration; data: fingerprint of the data set; dataset: its name.
    """

    unit: Unit
    kind: str
    device: str
    config: str
    data: str | None
    dataset: str | None

    @property
    def alike(self) -> list[Alike]:
        """Names of what it is like, the most like it first. An image takes as long as its model does; a run
        or a trial as long as its data set is large. On another device nothing is like it."""
        found: list[Alike] = [(self.config, self.dataset), (self.config,), (self.dataset,), ()]
        if self.unit != "image":
            found[:2] = [(self.config, self.data), (self.data,)]
        return [(self.unit, self.kind, self.device, place, *names) for place, names in enumerate(found)]


@dataclass(frozen=True)
class Estimate:
    """Seconds of all that is like something measured, summed; kinds of which nothing is."""

    seconds: float
    not_measured: tuple[str, ...]


class Throughput:
    """Mean seconds of what was measured: (work, seconds, how many units they went to)."""

    def __init__(self, measured: Iterable[tuple[Work, float, int]] = ()) -> None:
        self._sums: dict[Alike, tuple[float, int]] = {}
        for work, seconds, units in measured:
            for name in work.alike:
                before, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (before + seconds, count + units)

    def seconds_each(self, work: Work) -> float | None:
        """Mean over the units of what is most like it; None if nothing of its kind was measured."""
        for name in work.alike:
            if name in self._sums:
                seconds, units = self._sums[name]
                return seconds / units
        return None

    def estimate(self, amounts: Iterable[tuple[Work, float]]) -> Estimate:
        """What so many units of each will take, one after the other."""
        total, unknown = 0.0, []
        for work, units in amounts:
            each = self.seconds_each(work)
            if each is None:
                unknown.append(work.kind)
            else:
                total += each * units
        return Estimate(total, tuple(dict.fromkeys(unknown)))


@dataclass(frozen=True)
class RecordedStage:
    """A finished stage. inputs: keys of the stages that it reads; units: images, or one run; seconds: None if
    they are not known; timed: the units that they went to, fewer where a stopped run had left some; gpus:
    that it held."""

    work: Work
    inputs: tuple[str, ...]
    images: int
    model_inputs: int
    units: int
    seconds: float | None
    timed: int
    gpus: float
    created_at: str


def recorded_stages(connection: Connection) -> dict[str, RecordedStage]:
    """Every stage that the results store knows, by key."""
    names = (
        "key",
        "kind",
        "dataset",
        "images",
        "model_inputs",
        "seconds",
        "device",
        "manifest",
        "created_at",
    )
    rows = connection.execute(select(*(getattr(Stage, name) for name in names)))
    return {row.key: _recorded(row) for row in rows}


def _recorded(row: Any) -> RecordedStage:
    manifest = json.loads(row.manifest)
    identity = manifest.get("identity") or {}
    device, images = device_kind(row.device), row.images or 0
    work = Work(
        unit="image" if images else "run",
        kind=row.kind,
        device=device,
        config=without_seed(identity.get("parameters") or {}),
        data=identity.get("data"),
        dataset=row.dataset,
    )
    held = manifest.get("replicas", 1) * manifest.get("num_gpus", 1)
    return RecordedStage(
        work=work,
        inputs=tuple((identity.get("inputs") or {}).values()),
        images=images,
        model_inputs=row.model_inputs or 0,
        units=images or 1,
        seconds=row.seconds,
        timed=manifest.get("images_computed", images) if images else 1,
        gpus=float(held) if device == "cuda" else 0.0,
        created_at=row.created_at,
    )


def device_kind(device: str | None) -> str:
    """`cpu` or `cuda`, of a device as torch calls it (`cuda:1`)."""
    return "cuda" if (device or "").startswith("cuda") else "cpu"


def without_seed(parameters: Mapping[str, Any]) -> str:
    """A stage's parameters but its seed, as text."""
    known = {name: value for name, value in parameters.items() if name != "seed"}
    return json.dumps(known, sort_keys=True, default=str)


def throughput(connection: Connection, stages: Mapping[str, RecordedStage]) -> Throughput:
    """Of all finished stages and done trials in the results store whose seconds are known."""
    alike = (Trial.method, Trial.device, Trial.config_id, Trial.data_fingerprint, Trial.dataset)
    trials = connection.execute(
        select(*alike, func.sum(Trial.seconds), func.count())
        .where(Trial.status == "done", Trial.seconds.is_not(None))
        .group_by(*alike)
        .order_by(*alike)
    )
    return Throughput(
        [
            *((s.work, s.seconds, s.timed) for s in stages.values() if s.seconds is not None and s.timed),
            *(
                (Work("trial", method, device_kind(device), *rest), seconds or 0.0, count)
                for method, device, *rest, seconds, count in trials
            ),
        ]
    )
