"""Sparse layer: CPU seconds of one thread to GLM-SAGA's own final objective, with LF-CBM's settings.

Four ways on the same features: the official steps (timed for a few epochs, then extrapolated by the number of
epochs), the same algorithm with matrix products (run to its end: it gives the objective and the epochs),
scikit-learn's saga, and ours. All with the allocator that keeps large temporaries.
`python -m benchmarks.sparse_layer [--reduced]`: full sizes take about ten minutes; reduced ones, on one data
seed, about one.
"""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LAMBDA, ALPHA, EPOCHS = 7e-4, 0.99, 1000
PEER_EPOCHS, POINTS, SEEDS = 2, 50, (1, 2)
TOLERANCES = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4, 1e-5)
SIZES = {  # images, features, classes, strength of the class signal, decay of the features' spectrum
    "cub": (4794, 370, 200, 1.0, 0.5),
    "c10": (50_000, 128, 10, 0.6, 0.5),
    "c100": (50_000, 892, 100, 0.45, 0.7),
}
REDUCED = {
    "cub": (2400, 90, 50, 1.0, 0.5),
    "c10": (6000, 64, 10, 0.6, 0.5),
    "c100": (6000, 200, 40, 0.45, 0.7),
}
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
Result = TypeVar("Result")


def images(
    n: int, m: int, n_classes: int, signal: float, decay: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """z-scored features, power-law spectrum in random directions, 12 features that tell each class."""
    stream = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(stream.standard_normal((m, m)))
    mix = (np.arange(1, m + 1)[:, None] ** -decay * directions).astype(np.float32)
    y = stream.integers(0, n_classes, n)
    means = np.zeros((n_classes, m), np.float32)
    for mean in means:
        mean[stream.choice(m, 12, replace=False)] = stream.standard_normal(12)
    x = stream.standard_normal((n, m), dtype=np.float32) @ mix
    x = x / x.std(axis=0) + signal * means[y]
    return np.ascontiguousarray((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), np.float32), y.astype(np.int64)


def objective(
    x: NDArray[np.float32], y: NDArray[np.int64], weight: NDArray[np.floating], bias: NDArray[np.floating]
) -> float:
    """float64."""
    w = np.asarray(weight, np.float64)
    z = (x @ np.asarray(weight, np.float32).T + np.asarray(bias, np.float32)).astype(np.float64)
    loss = (np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]).mean()
    return float(loss + LAMBDA * np.abs(w).sum() + LAMBDA * (1 - ALPHA) / ALPHA / 2 * (w**2).sum())


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def measure(reduced: bool, names: tuple[str, ...] = tuple(SIZES), seeds: tuple[int, ...] = SEEDS) -> None:
    """Prints a block for each size and data seed."""
    import torch

    torch.set_num_threads(1)
    for name in names:
        for seed in seeds[:1] if reduced else seeds:
            size = (REDUCED if reduced else SIZES)[name]
            x, y = images(*size, seed)
            print(f"  {name} {size[0]} x {size[1]} x {size[2]}, data seed {seed}", flush=True)
            target, peer = peers(x, y, size[2])
            scikit_learn(x, y, target)
            ours(x, y, size[2], target, peer)


def peers(x: NDArray[np.float32], y: NDArray[np.int64], n_classes: int) -> tuple[float, float]:
    """The objective where GLM-SAGA stops, and its seconds until there."""
    import torch

    from benchmarks.peers.glm_saga import glm_saga

    data = torch.from_numpy(x), torch.from_numpy(y), n_classes, LAMBDA, ALPHA
    seconds, (weight, bias, epochs) = timed(lambda: glm_saga(*data, epochs=PEER_EPOCHS))
    per_epoch, short = seconds / epochs, objective(x, y, weight.numpy(), bias.numpy())
    weight, bias, _ = glm_saga(*data, epochs=PEER_EPOCHS, gemm=True)
    same = objective(x, y, weight.numpy(), bias.numpy())
    control, (weight, bias, epochs) = timed(lambda: glm_saga(*data, epochs=EPOCHS, gemm=True))
    target, peer = objective(x, y, weight.numpy(), bias.numpy()), per_epoch * epochs
    print(
        f"    GLM-SAGA {per_epoch:.3f} s per epoch over {PEER_EPOCHS} (objective {short:.5f}, with GEMM"
        f" {same:.5f}); {epochs:.1f} epochs: {peer:.1f} s (extrapolated)\n"
        f"    with GEMM {control:.2f} s: {peer / control:.1f} x; stops at objective {target:.6f}",
        flush=True,
    )
    return target, peer


def scikit_learn(x: NDArray[np.float32], y: NDArray[np.int64], target: float, limit: float = 10.0) -> None:
    """Doubles the epochs until the objective is reached or a run takes longer than `limit` seconds."""
    from sklearn.linear_model import LogisticRegression

    epochs, seconds, reached = 2, 0.0, np.inf
    while reached > target and seconds < limit:
        epochs *= 2
        model = LogisticRegression(
            solver="saga",
            l1_ratio=ALPHA,
            C=ALPHA / (LAMBDA * len(x)),
            tol=0.0,
            max_iter=epochs,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it has not converged
            seconds, _ = timed(lambda model=model: model.fit(x, y))  # type: ignore[misc]
        reached = objective(x, y, model.coef_, model.intercept_)
    state = "reached" if reached <= target else "not reached, stopped"
    print(f"    scikit-learn saga {seconds:.2f} s, {epochs} epochs: {state} at {reached:.6f}", flush=True)


def ours(x: NDArray[np.float32], y: NDArray[np.int64], n_classes: int, target: float, peer: float) -> None:
    """Time of the loosest tolerance that is at or below the target, of the certified fit and of a path."""
    from components.studies.concept_bottleneck.final.sparse_path import elastic_net_path, lambda_max

    for tolerance in TOLERANCES:
        seconds, (fit,) = timed(lambda t=tolerance: elastic_net_path(x, y, n_classes, [LAMBDA], ALPHA, t))  # type: ignore[misc]
        if objective(x, y, fit.weight, fit.bias) <= target:
            break
    print(
        f"    ours {seconds:.2f} s at tolerance {tolerance:g}: {peer / seconds:.0f} x;"
        f" objective {fit.objective:.6f}, gap {fit.gap:.1e}",
        flush=True,
    )
    seconds, (fit,) = timed(lambda: elastic_net_path(x, y, n_classes, [LAMBDA], ALPHA))
    print(
        f"    ours certified {seconds:.2f} s: objective {fit.objective:.6f} ({target / fit.objective - 1:.1e}"
        f" below GLM-SAGA), gap {fit.gap:.1e}, {np.count_nonzero(fit.weight) / n_classes:.0f} per class",
        flush=True,
    )
    lambdas = np.geomspace(lambda_max(x, y, n_classes, ALPHA), LAMBDA, POINTS)
    whole, fits = timed(lambda: elastic_net_path(x, y, n_classes, lambdas, ALPHA))
    worst = max(fit.gap for fit in fits)
    print(
        f"    path of {POINTS} points {whole:.1f} s: {whole / seconds:.1f} x the last point alone,"
        f" worst gap {worst:.1e}",
        flush=True,
    )


def main(reduced: bool = False) -> None:
    """Measures in a process of its own, which starts with the allocator's settings."""
    command = f"from benchmarks.sparse_layer import measure; measure({reduced})"
    subprocess.run([sys.executable, "-c", command], env={**os.environ, **ENVIRONMENT}, check=True)


if __name__ == "__main__":
    main("--reduced" in sys.argv[1:])
