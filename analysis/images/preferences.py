"""Whose explanations people preferred: shares of votes with 95 % intervals, in the form of the tables of
EAC's reproduction study (choice A, choice B, discord)."""

from typing import Any

import pandas as pd

from analysis.intervals import wilson
from analysis.tables import read, records
from grid.results.store import ResultsStore

VOTES = """
SELECT p.image_id, p.voter, p.choice, l.dataset, l.id AS left_trial, l.method AS left_method,
       r.id AS right_trial, r.method AS right_method
FROM preference p JOIN trial l ON l.id = p.left_trial JOIN trial r ON r.id = p.right_trial
WHERE p.experiment = :experiment
"""
EVERYONE = "all"
CHOICES = ("a", "b", "discord")


def effective_votes(chosen: "pd.Series[bool]", images: "pd.Series[str]") -> float:
    """So many independent votes are worth as much as these (n,), of which those on one image go together.

    n over the design effect of images as clusters: the linearised variance of the share over that of
    independent votes, never below 1. With one vote an image it is n, with r raters who always agree n / r;
    where all or none chose, and so nothing varies, the number of images.
    """
    share, n = chosen.mean(), len(chosen)
    if share in (0.0, 1.0):
        return float(images.nunique())
    residuals = (chosen - share).groupby(images).sum()
    return n / max(float((residuals**2).sum()) / (n * share * (1 - share)), 1.0)


def preferences(store: ResultsStore, experiment: str) -> pd.DataFrame:
    """A row for each two trials, and of them for each rater and then, if there are several, for all: n votes
    on n images, and of `a`, `b` and `discord` the share with its interval.

    One rater's votes are independent images. Those of all are not: the interval is that of as many votes as
    they are worth (`effective_votes`). Raises LookupError without votes.
    """
    store.experiment_summary(experiment)
    votes = read(store, VOTES, experiment=experiment)
    if votes.empty:
        raise LookupError(f"experiment {experiment!r} has no votes: python -m grid prefer {experiment}")
    named = pd.DataFrame([_named(vote) for vote in records(votes)])
    rows = []
    for (dataset, a, b), pair in named.groupby(["dataset", "a", "b"]):
        raters = [(str(rater), own) for rater, own in pair.groupby("rater")]
        everyone = [(EVERYONE, pair)] if len(raters) > 1 else []
        rows += [
            {"dataset": dataset, "a": a, "b": b, "rater": r, **_shares(own)} for r, own in raters + everyone
        ]
    return pd.DataFrame(rows)


def _named(vote: dict[str, Any]) -> dict[str, Any]:
    """The vote as one for `a` or `b`, which are methods and beginnings of trials' ids, in their order."""
    sides = [f"{vote[f'{side}_method']} {vote[f'{side}_trial'][:8]}" for side in ("left", "right")]
    a, b = sorted(sides)
    chosen = dict(zip(("left", "right"), sides, strict=True)).get(vote["choice"])
    choice = {a: "a", b: "b"}.get(str(chosen), "discord")
    names = {"a": a, "b": b, "rater": vote["voter"], "image": vote["image_id"]}
    return {"dataset": vote["dataset"], **names, "choice": choice}


def _shares(votes: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {"n": len(votes), "images": int(votes["image"].nunique())}
    for choice in CHOICES:
        chosen = votes["choice"] == choice
        low, high = wilson(float(chosen.mean()), effective_votes(chosen, votes["image"]))
        found |= {choice + "_share": float(chosen.mean()), f"{choice}_ci_low": low, f"{choice}_ci_high": high}
    return found
