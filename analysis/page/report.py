"""One self-contained HTML page about an experiment: question, answer, evidence."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import figures, tables
from analysis.compare import BASELINE, Wanted
from analysis.effects import effect_note, effects
from analysis.groups import groups
from analysis.page.galleries import gallery
from analysis.page.mistakes import mistakes
from analysis.page.verdict import METRICS, Chosen, by_validation, verdict
from analysis.pareto import keeps, pareto
from analysis.protocol import Protocol, goals_of, protocol_of
from analysis.taught import taught
from grid.results.reads import warned
from grid.results.store import ResultsStore

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
GROUPS = 8  # columns of the table of groups
VERSIONS = """
SELECT DISTINCT t.versions, t.device FROM trial t JOIN experiment_trial e ON e.trial_id = t.id
WHERE e.experiment = :experiment AND t.versions IS NOT NULL ORDER BY t.versions, t.device
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
    protocol = protocol_of(store, experiment)
    leaders = tables.leaderboard(store, experiment=experiment, selections=protocol.selections)
    found = [effects(store, experiment, metric=metric, selections=protocol.selections) for metric in METRICS]
    knobs = pd.concat([table for table in found if len(table)] or found)  # empty ones have no types
    datasets = sorted({*leaders["dataset"], *notes})
    return {
        "experiment": experiment,
        "made_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "header": _header(launches[-1]["spec"] if launches else ""),
        "summary": summary,
        "versions": _versions(store, experiment),
        "taught": taught(leaders["config"]),
        "protocol": protocol.lines(leaders),
        "weights": "last weights" if not protocol.said else f"weights by {protocol.selections[0]}",
        "warnings": warned(summary["warnings"].values()),
        "explanation_metrics": EXPLANATIONS,
        "front": _front(store, experiment),
        "datasets": [
            _dataset(store, experiment, protocol, d, notes.get(d), leaders, knobs) for d in datasets
        ],
    }


def _front(store: ResultsStore, experiment: str) -> dict[str, Any] | None:
    """What no configuration beats in the goals of the experiment's search; None if it has one goal, or no
    trial with all."""
    search = goals_of(store, experiment)
    if search is None:
        return None
    most, least = search.goals("max"), search.goals("min")
    try:
        table = pareto(
            store, experiment, most, least, split="val", selections=(search.selection,),
            among=keeps(store, experiment, search),
        )  # fmt: skip
    except LookupError:  # no trial is done yet
        return None
    rows = tables.records(table[table["unbeaten"]])
    if not rows:
        return None
    return {
        "goals": [*most, *least],
        "conditions": [f"{name} {text}" for name, text in search.where.items()],
        "rows": rows,
        "of": len(table),
        "alt": f"Plot of {len(table)} configurations by {' and '.join(search.metrics[:2])} on validation; "
        f"{len(rows)} are beaten by no other",
        "plot": figures.picture(figures.trade_off([*most, *least]), table, 5.2),
    }


def _header(spec: str) -> dict[str, str]:
    """What the spec says about itself; empty texts, if it is not the YAML of a mapping."""
    try:
        content = yaml.safe_load(spec)
    except yaml.YAMLError:
        content = None
    told = content if isinstance(content, dict) else {}
    return {name: str(told.get(name) or "").strip() for name in HEADER}


def _versions(store: ResultsStore, experiment: str) -> list[str]:
    """A line for each set of versions, and device, that trials ran with."""
    found = tables.read(store, VERSIONS, experiment=experiment)
    return [
        ", ".join([*(f"{name} {number}" for name, number in json.loads(row["versions"]).items()),
                   f"on {row['device']}" if row["device"] else "on an unknown device"])
        for row in tables.records(found)
    ]  # fmt: skip


def _dataset(
    store: ResultsStore,
    experiment: str,
    protocol: Protocol,
    dataset: str,
    note: str | None,
    leaders: pd.DataFrame,
    knobs: pd.DataFrame,
) -> dict[str, Any]:
    leaders = leaders[leaders["dataset"] == dataset]
    chosen = by_validation(store, experiment, dataset, leaders, protocol)
    marked = set(chosen.best["config_id"]) if len(chosen.rows) else set()
    best = pd.concat([chosen.rows, leaders]).drop_duplicates("method").sort_index()
    lost = leaders[leaders["n"] == 0].head(LEADERS)
    shown = pd.concat([leaders.head(LEADERS), best, lost]).drop_duplicates(["method", "config_id"])
    rows = tables.records(shown.sort_index())
    galleries = [gallery(store, experiment, row) for row in tables.records(best)]
    return {
        "name": dataset,
        "verdict": verdict(store, experiment, dataset, chosen, protocol) if marked else "",
        "note": note,
        "leaders": [
            {
                **row,
                "note": tables.note(row),
                "seeds": tables.seeds(row),
                "chosen": row["config_id"] in marked,
            }
            for row in rows
        ],
        "more_leaders": len(leaders) - len(rows),
        **_plot(leaders),
        "groups": _groups(store, experiment, dataset, chosen, protocol),
        "explanations": _explanations(store, experiment, dataset),
        "ablations": [
            _ablation(str(method), str(parameter), one)
            for (method, parameter), one in knobs[knobs["dataset"] == dataset].groupby(
                ["method", "parameter"], sort=True
            )
            if (one["metric"] == METRICS[0]).any()
        ],
        "mistakes": mistakes(store, experiment, dataset, chosen, protocol) if marked else [],
        "galleries": [one for one in galleries if one["pictures"] or one["wide"] or one["lost"]],
    }


def _plot(leaders: pd.DataFrame) -> dict[str, str]:
    """Empty where no method has a worst group: explanations have none."""
    known = leaders.dropna(subset=["worst_group_accuracy", "average_accuracy"])
    if known.empty:
        return {"plot": "", "alt": ""}
    worst, average = known["worst_group_accuracy"], known["average_accuracy"]
    alt = (
        f"Plot of {len(known)} configurations of {', '.join(sorted(set(known['method'])))}: worst-group "
        f"accuracy from {worst.min():.3f} to {worst.max():.3f} against average accuracy from "
        f"{average.min():.3f} to {average.max():.3f}"
    )
    return {"plot": figures.picture(figures.worst_group_against_average, known, 7.0), "alt": alt}


def _groups(
    store: ResultsStore, experiment: str, dataset: str, chosen: Chosen, protocol: Protocol
) -> dict[str, Any] | None:
    """Of each method's configuration that validation chose, the accuracy of each group; None if there are no
    groups. Of many groups those that are lowest.

    Differences are to the BASELINE among them.
    """
    first = chosen.rows.drop_duplicates("method")
    base = first[first["method"] == BASELINE]["config_id"].tolist()
    try:
        wanted = Wanted(experiment, "group_accuracy", protocol=protocol, dataset=dataset)
        table = groups(store, wanted, baseline=base[0] if base else None)
    except LookupError:
        return None
    table = table[table["config_id"].isin(first["config_id"])]
    if table.empty:
        return None
    lowest = table.groupby("group_name")["mean"].min().sort_values(kind="stable").index
    names = sorted(lowest[:GROUPS])
    rows = []
    for row in tables.records(first):
        of = {one["group_name"]: one for one in tables.records(table[table["config_id"] == row["config_id"]])}
        if of:
            n = min(one["n"] for one in of.values())
            told = {name: of.get(name) for name in names}
            rows.append({**row, "note": tables.note(row), "n": n, "groups": told})
    return {
        "names": names,
        "more": len(lowest) - len(names),
        "rows": rows,
        "baseline": BASELINE if table["difference"].notna().any() else "",
    }


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
        "alt": _told(method, parameter, rows),
        "plot": figures.picture(figures.ablation_curve, known, 5.2) if len(known) else "",
    }


def _told(method: str, parameter: str, rows: list[dict[str, Any]]) -> str:
    """What the plot of an ablation shows, in short."""
    known = sorted((row["mean"], row["value"]) for row in rows if row["mean"] is not None)
    said = [f"{mean:.3f} at {value}" for mean, value in dict.fromkeys([*known[:1], *known[-1:]])]
    return f"Plot of {method} by {parameter}, {len(known)} values: worst-group accuracy {' to '.join(said)}"


def _number(value: float | None, pattern: str = ".3f") -> str:
    return "–" if value is None or pd.isna(value) else format(value, pattern)


def _interval(row: dict[str, Any], prefix: str, pattern: str = ".3f") -> str:
    low, high = row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]
    return "" if pd.isna(low) else f"[{low:{pattern}}, {high:{pattern}}]"
