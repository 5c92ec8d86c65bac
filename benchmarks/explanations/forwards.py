"""EAC: how near the values of masks come to those of the classifier itself, by the number of its forwards.

Each way draws its coalitions from the tables of `explanations.pictures`: SqueezeNet on photographs of
ImageNet, ResNet-20 on one of CIFAR-10, all real.
`python -m benchmarks.explanations.forwards [FOLDER]`: about twenty minutes, most for the million forwards
of 20 masks; with a folder, plots go there. The data are in CONCEPTGRID_TEST_DATA; where that is not set,
nothing is measured.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.explanations import plot
from benchmarks.explanations.pictures import Picture, resnet20, squeezenet
from benchmarks.explanations.timing import timed
from components.studies.explanations import shapley
from components.studies.explanations.shapley import SIZES, Draw, Floats, Sizes, Value

BUDGETS = (128, 256, 512, 1024, 2048, 2500)
SEEDS = 3
STABLE = 0.95  # rank correlation with the values of half as many forwards
Row = tuple[float, float, float, float, float]  # error, rank correlation, same first mask, AUC's, seconds
Way = Callable[[Picture, int, np.random.Generator], Floats]


def ways(value: Value) -> dict[str, Way]:
    """By name, from the number of forwards. The first is EAC's."""

    def surrogate(sizes: Sizes) -> Way:
        from components.studies.explanations.surrogate_network import fit_surrogate

        def estimate(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
            bits = shapley.draw(picture.n, m, sizes, stream)[picture.n :]
            found = fit_surrogate(
                bits, picture.game()(bits), picture.head, picture.label, picture.training, stream
            )
            return shapley.shared(found, picture.n, value, 8192, stream, "sobol")

        return estimate

    def regression(how: Draw) -> Way:
        def estimate(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
            bits = shapley.draw(picture.n, m, SIZES[value], stream, how)
            weight = shapley.regression_weights(bits, value, SIZES[value])
            return shapley.regression(bits, picture.game()(bits), weight, picture.worth[[0, -1]], value)

        return estimate

    def process(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
        bits = shapley.draw(picture.n, m, SIZES[value], stream)
        return shapley.gaussian_process(bits, picture.game()(bits), picture.worth[[0, -1]], value)

    found = {"surrogate (EAC)": surrogate("bernoulli")}
    if value == "shapley":
        found["surrogate, sizes uniform"] = surrogate("uniform")
        found["permutation"] = lambda p, m, s: shapley.permutation(p.game(), p.n, m // (p.n + 1), s)
        found["kernel"] = lambda p, m, s: shapley.kernel(p.game(), p.n, value, m, s)
    draws: tuple[Draw, ...] = ("independent", "antithetic", "sobol")
    found |= {f"regression, {how}": regression(how) for how in draws}
    return found | {"Gaussian process": process}


def curves(pictures: list[Picture], value: Value) -> dict[str, list[Row]]:
    """Of each way, the mean over pictures and seeds at each of BUDGETS. Errors are relative to the root mean
    square of the exact values."""
    found: dict[str, list[Row]] = {}
    truths = [shapley.exact(picture.game(), picture.n, value) for picture in pictures]
    for name, way in ways(value).items():
        found[name] = []
        for m in BUDGETS:
            rows = []
            for picture, truth in zip(pictures, truths, strict=True):
                for seed in range(SEEDS):
                    stream = np.random.default_rng(seed)
                    seconds, values = timed(lambda: way(picture, m, stream))  # noqa: B023
                    rows.append((*_compared(picture, values, truth), seconds))
            mean = np.mean(rows, axis=0)
            mean[0] = np.sqrt(np.mean(np.square([row[0] for row in rows])))
            found[name].append(tuple(mean.tolist()))  # type: ignore[arg-type]
    return found


def _compared(picture: Picture, values: Floats, truth: Floats) -> tuple[float, float, float, float]:
    from scipy.stats import spearmanr

    error = np.sqrt(np.mean((values - truth) ** 2) / np.mean(truth**2))
    areas = np.abs(_areas(picture, values) - _areas(picture, truth)).mean()
    same = float(values.argmax() == truth.argmax())
    return float(error), float(spearmanr(values, truth).statistic), same, float(areas)


def _areas(picture: Picture, values: Floats) -> Floats:
    """Insertion's and deletion's AUC in percent, mask-wise, from the first mask on: EAC's rule
    (docs/methods/explanations.md, "The count axis")."""
    added = np.cumsum(1 << np.argsort(-values, kind="stable"))
    shown = picture.worth[np.stack([added, added[-1] - added])]
    return np.trapezoid(np.minimum(shown, picture.whole) / picture.whole, dx=100 / picture.n)


def reached(errors: list[float], goal: float) -> float:
    """The number of forwards from which on the error is the goal, between budgets by a power law."""
    above = [place for place, error in enumerate(errors) if error > goal]
    last = above[-1] if above else -1
    if last in (-1, len(BUDGETS) - 1):
        return BUDGETS[0] if last < 0 else np.inf
    pair = np.log(errors[last : last + 2])[::-1]
    return float(np.exp(np.interp(np.log(goal), pair, np.log(BUDGETS[last : last + 2])[::-1])))


def stopped(picture: Picture, value: Value, seed: int) -> tuple[int, float]:
    """Forwards, doubled until the order hardly changes, and the rank correlation with the truth then."""
    from scipy.stats import spearmanr

    truth = shapley.exact(picture.game(), picture.n, value)
    bits = shapley.draw(picture.n, BUDGETS[-2], SIZES[value], np.random.default_rng(seed))
    before, m = np.zeros(picture.n), BUDGETS[0] // 2
    while m <= BUDGETS[-2]:
        some = bits[:m]
        values = shapley.gaussian_process(some, picture.game()(some), picture.worth[[0, -1]], value)
        if before.any() and spearmanr(values, before).statistic >= STABLE:
            break
        before, m = values, 2 * m
    return min(m, BUDGETS[-2]), float(spearmanr(values, truth).statistic)


def measure(folder: Path | None = None, forward: float = 0.04) -> dict[str, tuple[float, float]]:
    """Prints the tables, and gives for each case how many forwards, and seconds beside them, the
    Gaussian process takes to the error of EAC's way at 2,500. forward: the seconds of a forward in the plots.
    """
    if not os.environ.get("CONCEPTGRID_TEST_DATA"):
        print("  forwards at equal ranking: not measured, CONCEPTGRID_TEST_DATA is not set")
        return {}
    found = {}
    data = Path(os.environ["CONCEPTGRID_TEST_DATA"])
    for name, network in (
        ("SqueezeNet", squeezenet(data)),
        ("ResNet-20", resnet20(data, 4, 4)),
        ("ResNet-20", resnet20(data, 4, 5)),
    ):
        pictures = list(network)
        values: tuple[Value, ...] = ("banzhaf", "shapley")
        for value in values:
            table = curves(pictures, value)
            goal = table["surrogate (EAC)"][-1][0]
            case = f"{name}, {pictures[0].n} masks, {value}"
            print(f"  {case}: error, rank correlation, same first mask, AUC's difference, seconds")
            print(" " * 30 + "".join(f"{m:>30d}" for m in BUDGETS) + "   as good as EAC's 2500")
            for way, rows in table.items():
                cells = "".join(f"   {e:5.3f} {r:6.3f} {s:4.2f} {a:4.1f} {t:4.2f}" for e, r, s, a, t in rows)
                print(f"    {way:26s}{cells}   {reached([row[0] for row in rows], goal):.0f}", flush=True)
            stops = np.array([stopped(p, value, seed) for p in pictures for seed in range(SEEDS)])
            print(
                f"    stopped at a rank correlation of {STABLE} between doublings: after"
                f" {stops[:, 0].mean():.0f} forwards, at {stops[:, 1].mean():.3f} with the truth",
                flush=True,
            )
            process = table["Gaussian process"]
            enough = reached([row[0] for row in process], goal)
            beside = np.interp(enough, BUDGETS, [row[4] for row in process])
            found[case] = enough, float(beside)
            if folder is not None:
                lines = {
                    way: [(m * forward + row[4], row[0]) for m, row in zip(BUDGETS, rows, strict=True)]
                    for way, rows in table.items()
                }
                cost = f"CPU seconds, forwards at {1e3 * forward:.0f} ms (ResNet-50)"
                stem = f"{name.lower().replace('-', '')}_{pictures[0].n}_{value}"
                file = folder / f"eac_forwards_{stem}.png"
                title = f"{value.capitalize()} values of {pictures[0].n} masks, {name}"
                plot.save(lines, title, cost, "relative error to exact enumeration", file)
    return found


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    measure(Path(sys.argv[1]) if sys.argv[1:] else None)
