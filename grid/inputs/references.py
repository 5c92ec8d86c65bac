"""Published numbers: `datasets/<name>/reported.csv`, one a line, which a run enters beside its own."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from components.data.card import DATASETS
from components.data.written import TextError, read_text
from grid.spec.spec import SpecError

REPORTED = "reported.csv"
KEY = ("paper", "table_name", "row_name", "setting", "method", "metric")  # a number's, within a data set
TEXTS = (*KEY, "split", "selection")
NUMBERS = {"value": float, "std": float, "n": int, "images": int}  # all but the value may be empty
WHOLE = "all"  # the group where the column group_name is empty or not there


def references(dataset: str) -> Iterator[dict[str, Any]]:
    """Rows of the table `reference_result` about this data set; none if it has no such file.

    Scores are fractions. SpecError for a file that is no UTF-8, and for a line without one of its texts,
    without a finite number, or with the texts of an earlier line: of two such numbers only one would be kept.
    """
    path = DATASETS / dataset / REPORTED
    if not path.is_file():
        return
    try:
        text = io.StringIO(read_text(path), newline="")
    except TextError as error:
        raise SpecError(str(error)) from error
    first: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(csv.DictReader(text), start=2):
        where = f"{dataset}/{REPORTED}, line {number}"
        try:
            texts = {name: row[name] for name in TEXTS}
            numbers = {name: kind(row[name]) if row.get(name) else None for name, kind in NUMBERS.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"{where}: {error!r}") from error
        if not all(texts.values()) or numbers["value"] is None:
            raise SpecError(f"{where}: a text or the value is empty")
        if not all(math.isfinite(value) for value in numbers.values() if value is not None):
            raise SpecError(f"{where}: a number is not finite")
        other = first.setdefault(tuple(texts[name] for name in KEY), number)
        if other != number:
            raise SpecError(
                f"{where}: {', '.join(KEY)} are those of line {other}; tell them apart by the setting"
            )
        knobs = row.get("knobs") or None
        if knobs and not all(knob.find("=") > 0 for knob in knobs.split()):
            raise SpecError(f"{where}: knobs are written NAME=VALUE NAME=VALUE")
        beside = {"knobs": knobs, "group_name": row.get("group_name") or WHOLE}
        yield {"dataset": dataset, **texts, **numbers, **beside}
