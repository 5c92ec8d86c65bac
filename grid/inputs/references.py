"""Published numbers: `datasets/<name>/reported.csv`, one a line, which a run enters beside its own."""

import csv
from collections.abc import Iterator
from typing import Any

from components.data.card import DATASETS
from grid.spec.spec import SpecError

REPORTED = "reported.csv"
TEXTS = ("paper", "table_name", "row_name", "setting", "method", "metric", "split", "selection")
NUMBERS = {"value": float, "std": float, "n": int}  # std and n may be empty
WHOLE = "all"  # the group where the column group_name is empty or not there


def references(dataset: str) -> Iterator[dict[str, Any]]:
    """Rows of the table `reference_result` about this data set; none if it has no such file.

    Scores are fractions. SpecError for a line without one of its texts or without a number.
    """
    path = DATASETS / dataset / REPORTED
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                texts = {name: row[name] for name in TEXTS}
                numbers = {name: kind(row[name]) if row[name] else None for name, kind in NUMBERS.items()}
            except (KeyError, TypeError, ValueError) as error:
                raise SpecError(f"{dataset}/{REPORTED}, line {number}: {error!r}") from error
            if not all(texts.values()) or numbers["value"] is None:
                raise SpecError(f"{dataset}/{REPORTED}, line {number}: a text or the value is empty")
            yield {"dataset": dataset, **texts, **numbers, "group_name": row.get("group_name") or WHOLE}
