"""The rows that a trial's report and a stage's manifest become: plain Python values only."""

import json
import math
from collections.abc import Mapping
from typing import Any

from grid.free_text import presentable_values
from grid.results.schema import Stage

STAGE_NUMBERS = {"images": int, "failed": int, "model_inputs": int, "bytes": int, "seconds": float}
STAGE_JSON = ("params", "versions")


def metric_row(trial_id: str, metric: Mapping[str, Any]) -> dict[str, Any]:
    """NaN and infinities are NULL with a status; NumPy numbers become Python's."""
    value, status = _number(metric["value"])
    step = metric.get("step")
    return {
        "trial_id": trial_id,
        "name": metric["name"],
        "split": metric["split"],
        "group_name": metric.get("group") or "all",
        "selection": metric.get("selection") or "last",
        "step": None if step is None else int(step),
        "value": value,
        "status": status,
    }


def _number(value: Any) -> tuple[float | None, str]:
    number = math.nan if value is None else float(value)
    if math.isfinite(number):
        return number, "ok"
    return None, "nan" if math.isnan(number) else "inf"


def done_row(report: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `trial` that a report fills."""
    return {
        **_origin(report["provenance"]),
        "status": "done",
        "error": None,
        "n_failed": int(report["n_failed"]),
        "on_failed": report["on_failed"],
        "warning": warning_of(report),
        "seconds": float(report["seconds"]),
        "artifacts_uri": report.get("uri"),
    }


def stopped_row(report: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `trial` that the report of a trial that was stopped early fills."""
    return {
        **_origin(report["provenance"]),
        "status": "stopped",
        "error": None,
        "seconds": float(report["seconds"]),
        "stopped_step": int(report["step"]),
        "stopped_value": float(report["value"]),
        "stopped_metric": report["metric"],
    }


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "git_commit": provenance.get("git_commit"),
        "git_dirty": provenance.get("git_dirty"),
        "versions": as_json(provenance.get("versions")),
        "host": provenance.get("host"),
        "device": provenance.get("device"),
    }


def warning_of(report: Mapping[str, Any]) -> str | None:
    """What a reader of the trial's numbers must know, in one line; None if there is nothing."""
    return "; ".join(report.get("warnings", ())) or None


def stage_row(manifest: Mapping[str, Any], now: str) -> dict[str, Any]:
    """`key` and `kind` must be there; every other column of `stage` is taken if it is."""
    names = set(Stage.__table__.columns.keys()) & set(manifest)
    row = {name: manifest[name] for name in names}
    for name, kind in STAGE_NUMBERS.items():
        row[name] = None if manifest.get(name) is None else kind(manifest[name])
    for name in STAGE_JSON:
        row[name] = as_json(manifest.get(name))
    return {"created_at": now, **row, "manifest": as_json(manifest) or "{}"}


def as_json(value: Any) -> str | None:
    """JSON text with sorted keys and without secrets; what JSON does not know is written as its text."""
    if value is None:
        return None
    known = json.loads(json.dumps(value, default=str))
    return json.dumps(presentable_values(known), sort_keys=True)
