"""Names and values in the form that MLflow takes. What it refuses in a name is written `_xHH_` (the number of
the character, hexadecimal), and what is too long ends in a hash of the whole: other names stay as they are,
and distinct ones stay distinct.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

KEY_LENGTH, NAME_LENGTH = 250, 250  # of metrics, params and tags; of runs and experiments
PARAM_LENGTH, TAG_LENGTH = 6000, 5000  # of values

_REFUSED = re.compile(
    r"[^\w\-. :]"
    r"|\A\.(?=\.|\Z)"  # other places than their own
    r"|_(?=x[0-9A-F_])"  # what would read as an escape
)
_SHORTENED = re.compile(r"_xH[0-9a-f]{16}$")


def metric_key(row: Mapping[str, Any]) -> str:
    """`test/last/group_accuracy/landbird on water`; training curves lie under `curve/`."""
    group = [] if row["group_name"] == "all" else [row["group_name"]]
    parts = [escaped(part) for part in (row["split"], row["selection"], row["name"], *group)]
    if row["step"] is not None:
        parts.insert(0, "curve")
    elif parts[0] == "curve":
        parts[0] = _as_number("c") + "urve"
    return shortened("/".join(parts), KEY_LENGTH)


def key(name: str) -> str:
    """A name as the key of a param."""
    return shortened(escaped(name), KEY_LENGTH)


def escaped(name: str) -> str:
    """A name as one part of a path, which does not stand for another place."""
    return _REFUSED.sub(lambda found: _as_number(found[0]), name) or "_x_"


def shortened(text: str, length: int) -> str:
    """A text that is no longer than this."""
    if len(text) <= length and not _SHORTENED.search(text):
        return text
    tail = f"_xH{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"
    return text[: length - len(tail)] + tail


def _as_number(character: str) -> str:
    return f"_x{ord(character):X}_"
