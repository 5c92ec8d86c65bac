"""EAC: how near the values of masks come to those of the classifier itself, by the number of its forwards.

On the pictures of `eac_pictures`: SqueezeNet on photographs of ImageNet in few and in many masks, ResNet-20
on one of CIFAR-10, all real.
`python -m benchmarks.eac_forwards [FOLDER]`: about fifteen minutes; with a folder, plots go there. The data
are in CONCEPTGRID_TEST_DATA; where that is not set, nothing is measured.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import eac_plot
from benchmarks.eac_pictures import FEW, MANY, VALUES, Picture, Truths, resnet20, squeezenet
from benchmarks.eac_timing import timed
from components import shapley
from components.shapley import SIZES, Draw, Floats, Sizes, Value

BUDGETS = (128, 256, 512, 1024, 2048, 2500)
SEEDS = 3
EAC, PROCESS = "surrogate (EAC)", "Gaussian process"
STABLE = 0.95  # rank correlation with the values of half as many forwards
Row = tuple[float, float, float, float, float]  # error, rank correlation, same first mask, AUC's, seconds
Way = Callable[[Picture, int, np.random.Generator], Floats]


def ways(value: Value) -> dict[str, Way]:
    """By name, from the number of forwards. The first is EAC's."""

    def surrogate(sizes: Sizes) -> Way:
        from components.models.surrogate import fit_surrogate

        def estimate(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
            bits = shapley.draw(picture.n, m, sizes, stream)[picture.n :]
            found = fit_surrogate(
                bits, picture.game(bits), picture.head, picture.label, picture.training, stream
            )
            return shapley.shared(found, picture.n, value, 8192, stream, "sobol")

        return estimate

    def regression(how: Draw) -> Way:
        def estimate(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
            bits = shapley.draw(picture.n, m, SIZES[value], stream, how)
            weight = shapley.regression_weights(bits, value, SIZES[value])
            return shapley.regression(bits, picture.game(bits), weight, picture.ends, value)

        return estimate

    def process(picture: Picture, m: int, stream: np.random.Generator) -> Floats:
        bits = shapley.draw(picture.n, m, SIZES[value], stream)
        return shapley.gaussian_process(bits, picture.game(bits), picture.ends, value)

    found = {EAC: surrogate("bernoulli")}
    if value == "shapley":
        found["surrogate, sizes uniform"] = surrogate("uniform")
        found["permutation"] = lambda p, m, s: shapley.permutation(p.game, p.n, m // (p.n + 1), s)
        found["kernel"] = lambda p, m, s: shapley.kernel(p.game, p.n, value, m, s)
    draws: tuple[Draw, ...] = ("independent", "antithetic", "sobol")
    found |= {f"regression, {how}": regression(how) for how in draws}
    return found | {PROCESS: process}


def curves(pictures: list[Picture], value: Value, compared: dict[str, Way]) -> dict[str, list[Row]]:
    """Of each way, the mean over pictures and seeds at each of BUDGETS. Errors are relative to the root mean
    square of the true values; where these are sampled, their own errors cancel in the mean."""
    found: dict[str, list[Row]] = {}
    for name, way in compared.items():
        found[name] = []
        for m in BUDGETS:
            rows = []
            for picture in pictures:
                for seed in range(SEEDS):
                    way(picture, m, np.random.default_rng(seed))  # pays the forwards, which are timed apart
                    stream = np.random.default_rng(seed)
                    seconds, values = timed(lambda: way(picture, m, stream))  # noqa: B023
                    rows.append((*_compared(picture, values, picture.truths[value]), seconds))
            mean = np.mean(rows, axis=0)
            mean[0] = max(mean[0], 0.0) ** 0.5
            found[name].append(tuple(mean.tolist()))  # type: ignore[arg-type]
    return found


def _compared(picture: Picture, values: Floats, truths: Truths) -> tuple[float, float, float, float]:
    from scipy.stats import spearmanr

    first, second = truths
    truth = (first + second) / 2
    squared = np.mean((values - first) * (values - second)) / np.mean(first * second)
    areas = np.abs(_areas(picture, values) - _areas(picture, truth)).mean()
    same = float(values.argmax() == truth.argmax())
    return float(squared), float(spearmanr(values, truth).statistic), same, float(areas)


def _areas(picture: Picture, values: Floats) -> Floats:
    """Insertion's and deletion's AUC in percent, mask-wise, from the first mask on (spec of EAC, E4)."""
    place = np.argsort(np.argsort(-values, kind="stable"))
    inserted = place <= np.arange(picture.n)[:, None]
    shown = np.stack([picture.game(inserted), picture.game(~inserted)])
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

    truth = np.mean(picture.truths[value], axis=0)
    bits = shapley.draw(picture.n, BUDGETS[-2], SIZES[value], np.random.default_rng(seed))
    before, m = np.zeros(picture.n), BUDGETS[0] // 2
    while m <= BUDGETS[-2]:
        some = bits[:m]
        values = shapley.gaussian_process(some, picture.game(some), picture.ends, value)
        if before.any() and spearmanr(values, before).statistic >= STABLE:
            break
        before, m = values, 2 * m
    return min(m, BUDGETS[-2]), float(spearmanr(values, truth).statistic)


def measure(folder: Path | None = None, forward: float = 0.04) -> dict[str, tuple[float, float]]:
    """Prints the tables, and gives for each network and value how many forwards, and seconds beside them, the
    Gaussian process takes to the error of EAC's way at 2,500. forward: the seconds of a forward in the plots.
    """
    if not os.environ.get("CONCEPTGRID_TEST_DATA"):
        print("  forwards at equal ranking: not measured, CONCEPTGRID_TEST_DATA is not set")
        return {}
    found = {}
    for name, pictures in _networks(Path(os.environ["CONCEPTGRID_TEST_DATA"])):
        for value in VALUES:
            compared = ways(value)
            if pictures[0].n == MANY:  # where each coalition costs a forward, those that the others lost to
                compared = {way: compared[way] for way in (EAC, PROCESS)}
            table = curves(pictures, value, compared)
            goal = table[EAC][-1][0]
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
            process = table[PROCESS]
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
                eac_plot.save(lines, title, cost, "relative error", file)
    return found


def _networks(data: Path) -> Iterator[tuple[str, list[Picture]]]:
    yield "SqueezeNet", list(squeezenet(data, FEW))
    yield "ResNet-20", list(resnet20(data))
    yield "SqueezeNet", list(squeezenet(data, MANY))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    measure(Path(sys.argv[1]) if sys.argv[1:] else None)
