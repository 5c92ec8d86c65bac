"""The front of a search with several goals: what no other configuration beats on validation."""

import csv
import io
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from grid.planning.goals import measured
from grid.results import history
from grid.results.front import unbeaten
from grid.spec.search import Search


@dataclass(frozen=True)
class OnFront:
    """A configuration that keeps all conditions of a search and is beaten by no other that does, on its data:
    its means over trials, by goal, and the trials."""

    method: str
    config_id: str
    goals: tuple[float, ...]
    trials: tuple[str, ...]


def front(connection: Connection, experiment: str, search: Search) -> list[OnFront]:
    """Of the experiment's done trials; on each drawing of the data for itself, the best first goal first."""
    by_data: dict[str, list[OnFront]] = {}
    for found in history.done_configurations(connection, experiment):
        numbers = measured(connection, search, found.trials, len(found.trials))
        if numbers is not None and numbers.keeps_all:
            one = OnFront(found.method, found.config_id, numbers.goals, found.trials)
            by_data.setdefault(found.data, []).append(one)
    signs = np.array([1 if mode == "max" else -1 for mode in search.modes])
    kept = [
        one
        for own in by_data.values()
        for one, stands in zip(own, unbeaten(signs * [one.goals for one in own]), strict=True)
        if stands
    ]
    return sorted(kept, key=lambda one: (-signs[0] * one.goals[0], one.config_id))


def as_csv(found: list[OnFront], search: Search) -> str:
    """A row for each configuration, with its trials."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["method", "config_id", *search.metrics, "trials"])
    table.writerows([one.method, one.config_id, *one.goals, " ".join(one.trials)] for one in found)
    return text.getvalue()
