"""One self-contained HTML page about an experiment: question, answer, evidence."""

import base64
import json
import mimetypes
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import figures, tables
from analysis.effects import effect_note, effects
from analysis.page.verdict import METRICS, verdict
from analysis.taught import taught
from grid.results.reads import warned
from grid.results.store import ResultsStore
from grid.stores.evidence import BrokenEvidence, LeftEvidence

HEADER = ("question", "baseline", "expected", "cost", "source")
EXPLANATIONS = (  # of methods that explain a classifier
    "insertion_auc_eac_official",
    "deletion_auc_eac_official",
    "insertion_auc_rise",
    "deletion_auc_rise",
    "mean_iou",
    "mean_iou_random",
    "mean_iou_all_background",
    "object_pointing_accuracy",
    "seconds_per_image",
)
LEADERS = 12  # rows of the leaderboard, and every method's best, and configurations without a number
VALUES = 12  # rows of one knob's table
PICTURES = 8  # explanations of one method
DRAWINGS = 5  # of those that a method draws itself
BEST_SEED = """
SELECT t.id, t.artifacts_uri FROM trial t JOIN experiment_trial e ON e.trial_id = t.id
WHERE e.experiment = :experiment AND t.config_id = :config_id AND t.status = 'done'
AND t.artifacts_uri IS NOT NULL ORDER BY t.seed
"""


def write_report(store: ResultsStore, experiment: str, path: Path) -> None:
    """Writes the page. Raises LookupError for an experiment that is not in the store."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "interval": _interval}
    page = environment.get_template("report.html.j2").render(**contents(store, experiment))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def contents(store: ResultsStore, experiment: str) -> dict[str, Any]:
    """What the template shows, by the template's names."""
    summary = store.experiment_summary(experiment)
    launches = summary["launches"]
    notes = json.loads(launches[-1]["plan"]).get("notes", {}) if launches else {}
    leaders = tables.leaderboard(store, experiment=experiment)
    knobs = pd.concat([effects(store, experiment, metric=metric) for metric in METRICS])
    datasets = sorted({*leaders["dataset"], *notes})
    return {
        "experiment": experiment,
        "made_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "header": _header(launches[-1]["spec"]) if launches else {},
        "summary": summary,
        "taught": taught(leaders["config"]),
        "warnings": warned(summary["warnings"].values()),
        "explanation_metrics": EXPLANATIONS,
        "datasets": [_dataset(store, experiment, d, notes.get(d), leaders, knobs) for d in datasets],
    }


def _header(spec: str) -> dict[str, str]:
    """What the spec says about itself; nothing, if it is not the YAML of a mapping."""
    try:
        content = yaml.safe_load(spec)
    except yaml.YAMLError:
        content = None
    if not isinstance(content, dict):
        return {}
    return {name: str(content[name]).strip() for name in HEADER if content.get(name)}


def _dataset(
    store: ResultsStore,
    experiment: str,
    dataset: str,
    note: str | None,
    leaders: pd.DataFrame,
    knobs: pd.DataFrame,
) -> dict[str, Any]:
    leaders = leaders[leaders["dataset"] == dataset]
    best = leaders.drop_duplicates("method")
    lost = leaders[leaders["n"] == 0].head(LEADERS)
    shown = pd.concat([leaders.head(LEADERS), best, lost]).drop_duplicates(["method", "config_id"])
    rows = tables.records(shown)
    return {
        "name": dataset,
        "verdict": verdict(store, experiment, dataset, leaders),
        "note": note,
        "leaders": [{**row, "note": tables.note(row), "seeds": tables.seeds(row)} for row in rows],
        "more_leaders": len(leaders) - len(rows),
        "plot": _plot(leaders),
        "explanations": _explanations(store, experiment, dataset),
        "ablations": [
            _ablation(str(method), str(parameter), one)
            for (method, parameter), one in knobs[knobs["dataset"] == dataset].groupby(
                ["method", "parameter"], sort=True
            )
            if (one["metric"] == METRICS[0]).any()
        ],
        "galleries": [_gallery(store, experiment, row) for row in tables.records(best)],
    }


def _plot(leaders: pd.DataFrame) -> str:
    """Empty where no method has a worst group: explanations have none."""
    known = leaders.dropna(subset=["worst_group_accuracy", "average_accuracy"])
    return figures.picture(figures.worst_group_against_average, known, 7.0) if len(known) else ""


def _explanations(store: ResultsStore, experiment: str, dataset: str) -> list[dict[str, Any]]:
    """A row for each configuration that explains a classifier: its knobs and EXPLANATIONS."""
    try:
        table = tables.scores(store, experiment, EXPLANATIONS[:1])
    except LookupError:
        return []
    explained = set(table[table["dataset"] == dataset]["config_id"])
    rows = tables.read(
        store,
        "SELECT * FROM score_by_form WHERE form = 'present' AND dataset = :dataset "
        "AND split = 'test' AND group_name = 'all' AND selection = 'last'",
        dataset=dataset,
    )
    knobs = dict(zip(table["config_id"], table["knobs"], strict=True))
    return [
        {
            "method": method,
            "knobs": knobs[config],
            "note": tables.note(_fewest(one)),
            "scores": {row["metric"]: row for row in tables.records(one)},
        }
        for (method, config), one in rows[rows["config_id"].isin(explained)].groupby(["method", "config_id"])
    ]


def _fewest(scores: pd.DataFrame) -> dict[str, Any]:
    """The row of the number that the fewest seeds have, among those that the table shows."""
    shown = scores[scores["metric"].isin(EXPLANATIONS)]
    return tables.records(shown.sort_values("n", kind="stable"))[0]


def _ablation(method: str, parameter: str, table: pd.DataFrame) -> dict[str, Any]:
    rows, known = tables.records(table[table["metric"] == METRICS[0]]), table[table["n"] > 0]
    return {
        "method": method,
        "parameter": parameter,
        "rows": [{**row, "note": effect_note(row), "seeds": tables.seeds(row)} for row in rows[:VALUES]],
        "more_rows": max(len(rows) - VALUES, 0),
        "paired": bool(known["paired"].all()),
        "plot": figures.picture(figures.ablation_curve, known, 5.2) if len(known) else "",
    }


def _gallery(store: ResultsStore, experiment: str, row: dict[str, Any]) -> dict[str, Any]:
    """The pictures of the first seed that has some; `lost`: what is left out, with the reason and what mends
    it."""
    found = tables.read(store, BEST_SEED, experiment=experiment, config_id=row["config_id"])
    shown: list[dict[str, Any]] = []
    lost: list[str] = []
    for trial, uri in zip(found["id"], found["artifacts_uri"], strict=True):
        if not shown:
            shown = _pictures(LeftEvidence(trial, uri), lost)
    drawn, explained = ([one for one in shown if one["wide"] == wide] for wide in (True, False))
    return {
        "method": row["method"],
        "knobs": row["knobs"],
        "pictures": explained[:PICTURES],
        "drawings": drawn[:DRAWINGS],
        "lost": lost,
    }


def _pictures(left: LeftEvidence, lost: list[str]) -> list[dict[str, Any]]:
    """The pictures that a trial left, as `data:` URIs with captions; none if it left none. lost: gets a line
    for those that are not what it wrote."""
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
        image = _data_uri(one["file"], picture)
        shown.append({"image": image, "caption": one["caption"], "wide": bool(one.get("wide"))})
    if reasons:
        lost.append(f"{len(reasons)} of {len(listed)} pictures are left out: {reasons[0]}")
    return shown


def _data_uri(name: str, picture: bytes) -> str:
    kind = mimetypes.guess_type(name)[0]
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def _number(value: float | None, pattern: str = ".3f") -> str:
    return "–" if value is None or pd.isna(value) else format(value, pattern)


def _interval(row: dict[str, Any], prefix: str, pattern: str = ".3f") -> str:
    low, high = row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]
    return "" if pd.isna(low) else f"[{low:{pattern}}, {high:{pattern}}]"
