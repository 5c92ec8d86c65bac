"""How weights and configurations are chosen for what is shown: as a spec says, or as commands do."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import yaml

from analysis.tables import read
from grid.results.store import ResultsStore

if TYPE_CHECKING:
    from grid.spec.search import Search, Select

LAST_SPEC = "SELECT spec FROM launch WHERE experiment = :experiment ORDER BY id DESC LIMIT 1"
LAST = "last"
EQUAL = 1e-12  # scores that differ by less are equal: sums in another order differ so
METRICS = {"val_average": "average_accuracy", "val_worst_group": "worst_group_accuracy"}


@dataclass(frozen=True)
class Protocol:
    """selections: rules by which the weights of a trial are chosen; of the second those that do not have the
    first. metric: by which number on the validation split one of a method's configurations is chosen; None:
    by the one that is shown. tie: among equals the first by its knobs, or the fastest. said: all this in one
    line; empty where nobody asked for it.
    """

    selections: tuple[str, ...] = (LAST,)
    metric: str | None = None
    tie: Literal["knobs", "fastest"] = "knobs"
    said: str = ""

    def by_metric(self, metric: str | None) -> "Protocol":
        """The same with this number to choose configurations by, if it is given: by --metric."""
        if metric is None:
            return self
        said = f"a method's configuration by {metric} on val, as --metric says" if self.said else ""
        return replace(self, metric=metric, said=said)

    def lines(self, table: pd.DataFrame) -> list[str]:
        """What tables say of it, and which methods have the second rule alone. table: with the columns
        method, config_id and selection."""
        by_config = table.drop_duplicates(["method", "config_id", "selection"])
        lines = [self.said] if self.said else []
        for method, rows in by_config.groupby("method"):
            only = int((rows["selection"] != self.selections[0]).sum())
            some = "" if only == len(rows) else f", {only} of its {len(rows)} configurations,"
            if only:
                lines.append(f"{method}{some} has only {self.selections[-1]}")
        return lines


def protocol_of(store: ResultsStore, experiment: str | None, selection: str | None = None) -> Protocol:
    """What the newest launch of the experiment had in its spec under `select`. selection: the rule of the
    weights that is asked for instead.

    Raises LookupError for a `select` that is not allowed.
    """
    select = None if experiment is None else _select(store, experiment)
    if select is None:
        return Protocol() if selection is None else Protocol((selection,))
    metric = METRICS.get(select.by)
    among = f"{metric or 'the number that is shown'} on val"
    among += ", among equals the fastest" if select.tie == "fastest" else ""
    says, among = f"as experiment {experiment}'s spec says", f"a method's configuration by {among}"
    if selection is None:
        selections = tuple(dict.fromkeys([select.by, LAST]))
        said = f"chosen by {select.by}, {says}: the weights of each trial, and {among}"
    else:
        selections = (selection,)
        said = f"weights by {selection}, as --selection says; {among}, {says}"
    return Protocol(selections, metric, select.tie, said)


def goals_of(store: ResultsStore, experiment: str) -> "Search | None":
    """The search of the experiment's newest launch if it has several goals; None if it has one, or is
    none that this code knows."""
    told = _newest_spec(store, experiment).get("search")
    if not isinstance(told, dict) or isinstance(told.get("metric", ""), str):
        return None
    from pydantic import ValidationError

    from grid.spec.search import Search

    try:
        return Search.model_validate(told)
    except ValidationError:
        return None


def _newest_spec(store: ResultsStore, experiment: str) -> dict[str, Any]:
    """As it is stored; empty where there is none."""
    found = read(store, LAST_SPEC, experiment=experiment)["spec"]
    try:
        spec = yaml.safe_load(found[0]) if len(found) else None
    except yaml.YAMLError:
        return {}
    return spec if isinstance(spec, dict) else {}


def _select(store: ResultsStore, experiment: str) -> "Select | None":
    told = _newest_spec(store, experiment).get("select")
    if told is None:
        return None
    from pydantic import ValidationError  # a tenth of a second, which most experiments need not wait for

    from grid.spec.search import Select

    try:
        return Select.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("select", *first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise LookupError(f"the spec of experiment {experiment!r}: {place}: {reason}") from error


def best(candidates: pd.DataFrame, tie: str = "knobs") -> str:
    """The name, in the index, with the highest `score`. Of equal ones the first in the alphabet or, with
    `tie` fastest, of those with the fewest `seconds`; seconds that are not known are the most."""
    equal = candidates[candidates["score"] >= candidates["score"].max() - EQUAL].sort_index()
    if tie == "fastest":
        equal = equal.sort_values("seconds", kind="stable")
    return str(equal.index[0])
