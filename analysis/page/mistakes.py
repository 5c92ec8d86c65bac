"""The images that one configuration gets wrong and another right, for the page, with what decided them."""

from typing import Any

from analysis.compare import BASELINE, Wanted
from analysis.images.errors import errors
from analysis.page.galleries import data_uri
from analysis.page.verdict import Chosen
from analysis.protocol import Protocol
from analysis.tables import records
from grid.results.store import ResultsStore
from grid.stores.evidence import BrokenEvidence, LeftEvidence

IMAGES = 6  # shown of each kind


def mistakes(
    store: ResultsStore, experiment: str, dataset: str, chosen: Chosen, protocol: Protocol
) -> list[dict[str, Any]]:
    """What BASELINE gets wrong on the test split and the best on validation right, and the other way: `wrong`
    and `right`, how many `images` there are, and `rows` of the first. chosen: with rows.

    Empty where there is nothing to compare, or trials left no predictions; `lost` says which cannot be read.
    """
    best = chosen.best.iloc[0]
    if best["method"] == BASELINE:
        return []
    wanted = Wanted(experiment, chosen.metric, protocol=protocol, dataset=dataset)
    sides = (BASELINE, BASELINE), (str(best["config_id"]), str(best["method"]))
    found = []
    for (one, wrong), (other, right) in (sides, sides[::-1]):
        told: dict[str, Any] = {"wrong": wrong, "right": right, "images": 0, "rows": [], "lost": ""}
        try:
            table = errors(store, wanted, one, other).images
            drawn = table["picture_a"].notna() | table["picture_b"].notna()
            first = (
                table.assign(drawn=drawn).sort_values("drawn", ascending=False, kind="stable").head(IMAGES)
            )
            rows = [{**row, "picture": _picture(row)} for row in records(first)]
            found.append(told | {"images": len(table), "rows": rows})
        except BrokenEvidence as error:
            return [told | {"lost": str(error)}]
        except LookupError:
            return []
    return found


def _picture(row: dict[str, Any]) -> str | None:
    """As a `data:` URI, what the one that is right drew of the image, or else the other."""
    for side in "ba":
        if row[f"picture_{side}"] is not None:
            folder, *file = row[f"picture_{side}"].rsplit("/", 2)
            content = LeftEvidence(row[f"trial_{side}"], folder).content("/".join(file))
            return None if content is None else data_uri(file[-1], content)
    return None
