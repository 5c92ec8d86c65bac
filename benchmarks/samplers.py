"""Samplers with two goals: the hypervolume of what 60 trials find, on a problem whose front is known.

ZDT1 (Zitzler, Deb and Thiele 2000) with 5 variables, both goals to be small: the best second goal is
1 - sqrt(first). The hypervolume is the area that the found points dominate below the reference (1.1, 6), as a
share of what the whole front dominates.
"""

from collections.abc import Sequence

import numpy as np
import optuna
from scipy.stats import t

from grid.planning.optuna_search import sampler_of
from grid.spec.sampler import Sampler
from grid.spec.search import Search

TRIALS, SEEDS, VARIABLES = 60, range(10), 5
REFERENCE = (1.1, 6.0)
WHOLE = REFERENCE[0] * REFERENCE[1] - (1 - 2 / 3)  # less the area below the front, which ends at 1
SAMPLERS = {
    "random": Sampler(name="random"),
    "qmc": Sampler(name="qmc"),
    "tpe": Sampler(name="tpe"),
    "nsga2": Sampler(name="nsga2"),
    "nsga2, population 10": Sampler(name="nsga2", population_size=10),
}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shares = {name: np.array([_share(one, seed) for seed in SEEDS]) for name, one in SAMPLERS.items()}
    print(f"  {TRIALS} trials, {len(SEEDS)} seeds: share of the front's hypervolume; less random's, paired")
    for name, found in shares.items():
        gain = found - shares["random"]
        half = t.ppf(0.975, len(SEEDS) - 1) * gain.std(ddof=1) / len(SEEDS) ** 0.5
        interval = f"[{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
        less = "" if name == "random" else f"   {gain.mean():+.3f} {interval}"
        print(f"    {name:20s} {found.mean():.3f}{less}")


def _share(sampler: Sampler, seed: int) -> float:
    search = Search(kind="optuna", trials=TRIALS, sampler=sampler, seed=seed)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler_of(search))
    for _ in range(TRIALS):
        trial = study.ask()
        x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(VARIABLES)]
        study.tell(trial, _zdt1(x))
    return _dominated([trial.values for trial in study.trials]) / WHOLE


def _zdt1(x: Sequence[float]) -> tuple[float, float]:
    g = 1 + 9 * float(np.mean(x[1:]))
    return x[0], g * (1 - (x[0] / g) ** 0.5)


def _dominated(points: Sequence[Sequence[float]]) -> float:
    """The area between the points and the reference, in strips from left to right."""
    area, lowest = 0.0, REFERENCE[1]
    for first, second in sorted((p[0], p[1]) for p in points):
        if first < REFERENCE[0] and second < lowest:
            area += (REFERENCE[0] - first) * (lowest - second)
            lowest = second
    return area
