"""The images that one configuration gets wrong and another right, and what decided them.

A failed image, whose prediction is no class, is wrong. Predictions are those of the selection `last`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from analysis.compare import Wanted, named, one_configuration
from analysis.images.agreement import done_trials
from analysis.tables import one_warning
from grid.results.store import ResultsStore
from grid.stores.evidence import LeftEvidence

EVERY_GROUP = "all"
CELLS = ("both_right", "only_a_wrong", "only_b_wrong", "both_wrong")


@dataclass(frozen=True)
class Errors:
    """images: a row for each image of each data set that `a` gets wrong and `b` right with some seed, those
    of most seeds first; cells: a row for each data set, seed and group with the configurations that `a` and
    `b` stand for, how many images are in each of CELLS, n in all, and `p`, McNemar's exact one, of the group
    `all`."""

    images: pd.DataFrame
    cells: pd.DataFrame


def errors(store: ResultsStore, wanted: Wanted, a: str, b: str) -> Errors:
    """`a` and `b` are methods or beginnings of configuration ids; of several configurations of a method the
    one that is best on the validation split, by the protocol's number or `metric`, stands for it. Paired by
    seed and by image: those that both trials of a seed have.

    Raises LookupError where there is nothing to compare, or a trial left no predictions.
    """
    trials = done_trials(store, wanted)
    validation = wanted.validation(store, wanted.scores(store, "test"))
    images, cells = [], []
    for name, rows in trials.groupby("dataset"):
        if not (named(rows, a).any() and named(rows, b).any()):
            continue
        chosen = validation[validation["dataset"] == name]
        one, two = (one_configuration(rows, chosen, side, tie=wanted.protocol.tie)[0] for side in (a, b))
        pairs = pd.merge(
            rows[rows["config_id"] == one], rows[rows["config_id"] == two], on="seed", suffixes=("_a", "_b")
        ).sort_values("seed")
        seeds = {pair["seed"]: (pair, _of_seed(pair)) for pair in pairs.to_dict("records")}
        if not seeds:
            continue
        images.append(_images(seeds).assign(dataset=name))
        told = {"dataset": name, "a": f"{a} {one[:8]}", "b": f"{b} {two[:8]}"}
        cells += [{**told, "seed": seed, **row} for seed, (_, seen) in seeds.items() for row in _cells(seen)]
    if not cells:
        where = wanted.experiment if wanted.dataset is None else f"{wanted.experiment} on {wanted.dataset}"
        raise LookupError(f"no data set and seed of {where!r} has done trials of both {a!r} and {b!r}")
    return Errors(pd.concat(images, ignore_index=True), pd.DataFrame(cells))


def _of_seed(pair: Mapping[Any, Any]) -> pd.DataFrame:
    """A row for each image that both trials of a pair have, with `wrong_a` and `wrong_b`."""
    sides = []
    for side in "ab":
        trial, uri = pair[f"id_{side}"], pair[f"artifacts_uri_{side}"]
        left = LeftEvidence(trial, uri).predictions()
        if left is None:
            raise LookupError(f"trial {trial} left no predictions below {uri}")
        table = left.to_pandas().set_index("image_id")
        sides.append(table.assign(wrong=table["predicted"] != table["label"]))
    own = ["predicted_name", "evidence", "wrong"]
    return pd.merge(sides[0], sides[1][own], left_index=True, right_index=True, suffixes=("_a", "_b"))


def _images(seeds: Mapping[int, tuple[Mapping[Any, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Of one data set. What was said of an image, and by which trials, is of the first seed with which `a` is
    wrong and `b` right."""
    every = pd.concat([seen.assign(seed=seed) for seed, (_, seen) in seeds.items()])
    every["only_a_wrong"] = every["wrong_a"] & ~every["wrong_b"]
    counted = every.groupby(level=0)[["only_a_wrong", "wrong_a", "wrong_b"]].agg("sum")
    counted["n"] = every.groupby(level=0).size()
    first = every[every["only_a_wrong"]]
    first = first[~first.index.duplicated()].drop(columns=["only_a_wrong", "wrong_a", "wrong_b"])
    table = first.join(counted).rename_axis("image_id").reset_index()
    table = table.sort_values(["only_a_wrong", "image_id"], ascending=[False, True], ignore_index=True)
    pairs = [seeds[seed][0] for seed in table["seed"]]
    found = {name: table[name] for name in ("image_id", "path", "group_name", "label_name", "n")}
    found |= {name: table[name] for name in ("only_a_wrong", "wrong_a", "wrong_b", "seed")}
    for side in "ab":
        trials = [(pair[f"id_{side}"], pair[f"artifacts_uri_{side}"]) for pair in pairs]
        drawn = {trial: _pictures(*trial) for trial in set(trials)}
        shown = [drawn[trial].get(image) for trial, image in zip(trials, table["image_id"], strict=True)]
        found[f"trial_{side}"] = pd.Series([trial for trial, _ in trials], dtype=object)
        found[f"predicted_{side}"] = table[f"predicted_name_{side}"]
        found[f"evidence_{side}"] = table[f"evidence_{side}"].map(said)
        found[f"picture_{side}"] = pd.Series(shown, dtype=object)
    warnings = [one_warning([pair["warning_a"], pair["warning_b"]]) for pair in pairs]
    return pd.DataFrame({**found, "warning": pd.Series(warnings, dtype=object)})


def said(evidence: Any) -> str:
    """What decided an image, as one text: `crest +1.20; NOT long tail +0.31`."""
    terms = [] if evidence is None else evidence
    return "; ".join(f"{term['what']} {term['contribution']:+.2f}" for term in terms)


def _pictures(trial: str, uri: str) -> dict[int, str]:
    """URI of the first picture that a trial drew of each image."""
    found: dict[int, str] = {}
    for picture in LeftEvidence(trial, uri).pictures():
        number = PurePosixPath(picture["file"]).stem.replace("_", "-").rpartition("-")[2]
        if number.isdecimal():
            found.setdefault(int(number), f"{uri}/{picture['file']}")
    return found


def _cells(seen: pd.DataFrame) -> list[dict[str, Any]]:
    """Of all images, then of each group."""
    whole = _counted(EVERY_GROUP, seen)
    only = whole["only_a_wrong"], whole["only_b_wrong"]
    p = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
    groups = [_counted(str(group), rows) for group, rows in seen.groupby("group_name")]
    return [{**whole, "p": p}, *({**one, "p": None} for one in groups)]


def _counted(group: str, seen: pd.DataFrame) -> dict[str, Any]:
    a, b = seen["wrong_a"], seen["wrong_b"]
    cells = (~a & ~b, a & ~b, ~a & b, a & b)
    counts = {name: int(cell.sum()) for name, cell in zip(CELLS, cells, strict=True)}
    return {"group_name": group, "n": len(seen), **counts}
