"""The pictures that trials left, for the page: as `data:` URIs with what is said of them."""

import base64
import io
import mimetypes
from typing import Any

from PIL import Image, UnidentifiedImageError

from analysis.tables import read
from grid.results.store import ResultsStore
from grid.stores.evidence import BrokenEvidence, LeftEvidence

PICTURES = 8  # explanations of one method
DRAWINGS = 5  # of those that a method draws itself
COLUMN = 700  # pixels: a wider picture has a line of the page for itself
BEST_SEED = """
SELECT t.id, t.artifacts_uri FROM trial t JOIN experiment_trial e ON e.trial_id = t.id
WHERE e.experiment = :experiment AND t.config_id = :config_id AND t.status = 'done'
AND t.artifacts_uri IS NOT NULL ORDER BY t.seed
"""


def gallery(store: ResultsStore, experiment: str, row: dict[str, Any]) -> dict[str, Any]:
    """The pictures of a configuration, of the first seed that has some: `pictures`, and `wide` ones. `lost`:
    what is left out, with the reason and what mends it. row: of the leaderboard."""
    found = read(store, BEST_SEED, experiment=experiment, config_id=row["config_id"])
    shown: list[dict[str, Any]] = []
    lost: list[str] = []
    for trial, uri in zip(found["id"], found["artifacts_uri"], strict=True):
        if not shown:
            shown = _pictures(LeftEvidence(trial, uri), lost)
    drawn, explained = ([one for one in shown if one["drawn"] == drawn] for drawn in (True, False))
    chosen = [*explained[:PICTURES], *drawn[:DRAWINGS]]
    narrow, wide = ([one for one in chosen if (one["width"] > COLUMN) == wide] for wide in (False, True))
    return {"method": row["method"], "knobs": row["knobs"], "pictures": narrow, "wide": wide, "lost": lost}


def _pictures(left: LeftEvidence, lost: list[str]) -> list[dict[str, Any]]:
    """The pictures that a trial left; none if it left none. lost: gets a line for those that are not what it
    wrote."""
    shown: list[dict[str, Any]] = []
    reasons: list[str] = []
    try:
        listed = left.pictures()
    except BrokenEvidence as error:
        lost.append(f"its pictures are left out: {error}")
        return []
    for one in listed:
        try:
            picture = left.content(one["file"])
        except BrokenEvidence as error:
            reasons.append(str(error))
            continue
        if picture is None:
            reasons.append(f"{one['file']} is gone")
            continue
        try:
            width, height = Image.open(io.BytesIO(picture)).size
        except UnidentifiedImageError:
            reasons.append(f"{one['file']} is no picture")
            continue
        caption, *said = one["caption"].split("\n")
        shown.append(
            {"image": data_uri(one["file"], picture), "width": width, "height": height, "caption": caption,
             "said": said, "drawn": bool(one.get("wide"))}
        )  # fmt: skip
    if reasons:
        lost.append(f"{len(reasons)} of {len(listed)} pictures are left out: {reasons[0]}")
    return shown


def data_uri(name: str, picture: bytes) -> str:
    """A picture within the page; name: its file's."""
    kind = mimetypes.guess_type(name)[0]
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"
