"""EAC: the error of each estimator of a surrogate's values against exact enumeration, by its seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.explanations import plot
from benchmarks.explanations.timing import timed
from components.studies.explanations import shapley

PLAYERS = 20  # of exact enumeration
BUDGETS = (512, 2048, 8192, 32_768)
ORDERS = (25, 100, 400, 1600)
SEEDS = 3
Estimate = Callable[[np.random.Generator], NDArray[np.float64]]


def measure(game: Any, folder: Path | None) -> None:
    """Prints errors and seconds, of the values of the first PLAYERS masks of a SoftmaxGame; the official
    estimator is run on the game as we evaluate it. With a folder, a plot of each value goes there."""
    from components.studies.explanations.surrogate_network import SoftmaxGame

    game = SoftmaxGame(game._weight[:PLAYERS].T, game._bias, game._label)
    for value in ("banzhaf", "shapley"):
        seconds, truth = timed(lambda v=value: shapley.exact(game, PLAYERS, v))  # type: ignore[misc]
        print(f"  {value} of {PLAYERS} masks, exact {seconds:.1f} s, largest {np.abs(truth).max():.3f}")
        curves: dict[str, list[plot.Point]] = {}
        for name, samples, estimate in ways(game, value):
            errors, cost = [], 0.0
            for seed in range(SEEDS):
                seconds, found = timed(lambda e=estimate, s=seed: e(np.random.default_rng(s)))  # type: ignore[misc]
                errors.append(found - truth)
                cost += seconds / SEEDS
            rmse = float(np.sqrt(np.mean(np.square(errors))))
            curves.setdefault(name, []).append((cost, rmse))
            print(
                f"    {name:12s} {samples:6d} {cost:8.4f} s  rmse {rmse:.1e}  rmse x sqrt(s)"
                f" {rmse * cost**0.5:.1e}",
                flush=True,
            )
        if folder is not None:
            title = f"{value.capitalize()} values of {PLAYERS} masks under a surrogate"
            file = folder / f"eac_estimators_{value}.png"
            plot.save(curves, title, "CPU seconds of one thread", "rmse to exact enumeration", file)


def ways(game: Any, value: Any) -> Iterator[tuple[str, int, Estimate]]:
    """Estimators by name and number of samples: coalitions; orders of permutations; coalitions of each mask
    of the official one."""
    for how in ("independent", "antithetic", "sobol"):
        for m in BUDGETS:
            yield how, m, lambda s, m=m, how=how: shapley.shared(game, PLAYERS, value, m, s, how)  # type: ignore[misc]
    for m in BUDGETS:
        yield "kernel", m, lambda s, m=m: shapley.kernel(game, PLAYERS, value, m, s)  # type: ignore[misc]
    if value == "shapley":
        for m in ORDERS:
            yield "permutation", m, lambda s, m=m: shapley.permutation(game, PLAYERS, m, s)  # type: ignore[misc]
    for m in (512, 50_000):
        yield "official", m, lambda s, m=m: shapley.official(game, PLAYERS, value, m, s)  # type: ignore[misc]
