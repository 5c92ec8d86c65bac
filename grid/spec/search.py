"""How a spec chooses configurations, stops trials early, and selects what it reports."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BeforeValidator, Field, model_validator

from grid.spec.sampler import TAKES_CONDITIONS, Sampler
from grid.spec.strict import Strict

LARGEST_SEED_OF_SEARCH = 2**32 - 1  # of Optuna's samplers

Mode = Literal["max", "min"]
CONDITION = re.compile(r"\s*(<=|>=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


class Watched(NamedTuple):
    """A number that trials report at steps, by the name by which it is reported, and which way it is
    better."""

    metric: str
    mode: Mode


class Scheduler(Strict):
    """When a trial that reports steps is stopped early. `asha`: at `grace` steps, and at each `factor` times
    as many, unless it is among the best 1/factor of those that came there before it. `median`: from `grace`
    steps on, if its best is worse than the median of the means of the others up to that step, of which there
    must be `factor`. metric: what is reported at steps, by the name by which it is reported, and mode: which
    way it is better; None: the search's first goal, on the split val."""

    kind: Literal["asha", "median"]
    grace: Annotated[int, Ge(1)] = 3
    factor: Annotated[float, Gt(1)] = 3
    metric: str | None = None
    mode: Mode | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Scheduler":
        if (self.metric is None) != (self.mode is None):
            raise ValueError(
                f"search.scheduler has metric {self.metric!r} and mode {self.mode!r}: give both (mode: "
                "max or min is better), or neither, and the search's own are taken"
            )
        return self


class Condition(NamedTuple):
    """What a number of a trial must be: at most, or at least, so much."""

    name: str
    at_most: bool
    bound: float

    def excess(self, values: Sequence[float]) -> float:
        """By how much the worst of several trials misses it; at most 0 where all keep it."""
        return max(values) - self.bound if self.at_most else self.bound - min(values)


class Search(Strict):
    """How configurations are chosen. `grid`: all; `random`, `optuna`: `trials` distinct trials, to get the
    most (or least, `mode`) of `metric` on the split `val`, by average over the seeds. Several metrics are
    several goals (optuna).

    where: conditions on other numbers of a trial, on val or else on train, as `{gap: "<= 1e-4"}` (optuna).
    warm_start: whether finished trials of other experiments are told to the sampler (optuna). A number of the
    test split is never an input of a search.
    """

    kind: Literal["grid", "random", "optuna"] = "grid"
    trials: Annotated[int, Ge(1)] | None = None
    metric: str | Annotated[tuple[str, ...], MinLen(1)] = "average_accuracy"
    selection: str = "last"
    mode: Mode | tuple[Mode, ...] = "max"
    sampler: Sampler = Sampler()
    where: dict[str, str] = Field(default_factory=dict)
    warm_start: bool = False
    scheduler: Scheduler | None = None
    seed: Annotated[int, Ge(0), Le(LARGEST_SEED_OF_SEARCH)] = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        """The goals."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Which way each goal is better."""
        return (self.mode,) * len(self.metrics) if isinstance(self.mode, str) else self.mode

    def goals(self, mode: Mode) -> list[str]:
        """Those of which the most, or the least, is wanted."""
        return [name for name, own in zip(self.metrics, self.modes, strict=True) if own == mode]

    @property
    def watched(self) -> Watched | None:
        """What the scheduler goes by; None without one."""
        if self.scheduler is None:
            return None
        metric, mode = self.scheduler.metric, self.scheduler.mode
        return Watched(metric or f"val_{self.metrics[0]}", mode or self.modes[0])

    def stops_at(self, step: int, metric: str) -> bool:
        """Whether the scheduler goes by this reported number, and stops trials after so many steps."""
        if self.scheduler is None or self.watched is None:
            return False
        return self.watched.metric == metric and self.scheduler.grace <= step

    @model_validator(mode="after")
    def _consistent(self) -> "Search":
        if len(self.modes) != len(self.metrics):
            raise ValueError(f"search.mode has {len(self.modes)} values for {len(self.metrics)} metrics")
        if self.kind != "optuna":
            usual = Search.model_construct()
            for name in ("sampler", "where", "warm_start"):
                if getattr(self, name) != getattr(usual, name):  # what is stored with a launch gives all
                    raise ValueError(f"search.{name} is of kind: optuna alone (search.kind is {self.kind})")
            if len(self.metrics) > 1:
                raise ValueError(f"search.metric: several goals need kind: optuna (it is {self.kind})")
        self._refuse_test()
        if self.conditions and self.sampler.name not in TAKES_CONDITIONS:
            takes = ", ".join(TAKES_CONDITIONS)
            raise ValueError(f"search.where: {self.sampler.name} looks at no condition; {takes} do")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"search.metric = {list(self.metrics)}: a goal is given twice")
        return self

    def _refuse_test(self) -> None:
        watched = self.scheduler.metric if self.scheduler is not None else None
        for place, name in (
            *(("metric", name) for name in self.metrics),
            ("selection", self.selection),
            *(("where", name) for name in self.where),
            *([("scheduler.metric", watched)] if watched else []),
        ):
            if name.split("_")[0] == "test" or name.split(".")[0] == "test":
                raise ValueError(
                    f"search.{place} = {name!r}: numbers of the test split are never an input of a search"
                )

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """`where`, read; ValueError in one line for what is none."""
        found = []
        for name, text in self.where.items():
            match = CONDITION.fullmatch(text)
            if not match or not math.isfinite(float(match[2])):
                raise ValueError(f'search.where.{name} = {text!r}: expected "<= NUMBER" or ">= NUMBER"')
            found.append(Condition(name, match[1] == "<=", float(match[2])))
        return tuple(found)


def _no_test(value: Any) -> Any:
    """A rule that may be by validation."""
    if "test" in str(value):
        raise ValueError(
            f"select.by = {value!r}: numbers of the test split are never used to select; "
            "choose last, val_average or val_worst_group"
        )
    return value


class Select(Strict):
    """By which protocol results are chosen, without the test split: the weights within a trial, and one
    configuration among those of a method.

    by: the rule of the weights: those of the last epoch, or those best by the average or the worst group on
    the validation split; the second reads group labels there. Configurations are chosen by the same accuracy
    on the validation split under the same weights, whatever number is shown; with `last`, which names no
    accuracy, by the number that is shown, on the validation split.
    tie: among configurations that are equal to within 1e-12, the first by its knobs as text, which is as good
    as by chance, but the same on every machine and drawing of the data; or the one whose trials took the
    fewest seconds. The results store does not keep the order in which a spec or a search names them.
    """

    by: Annotated[Literal["last", "val_average", "val_worst_group"], BeforeValidator(_no_test)] = "last"
    tie: Literal["knobs", "fastest"] = "knobs"
