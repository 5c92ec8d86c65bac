"""EAC: CPU seconds of one thread for one image, against the official steps, and the estimators' errors.

ResNet-50 with random weights and calibrated batch norms, a photograph in SLIC segments; both sides get the
same masks, coalitions, surrogate's start and batches. Forwards of both sides and the official values are
timed on a few coalitions and masks and scaled. Then every estimator's error against exact enumeration.
`python -m benchmarks.eac`: about five minutes.
"""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.sparse_layer import ENVIRONMENT

COALITIONS, TIMED, EPOCHS, TIMED_EPOCHS, SAMPLES, TIMED_MASKS = 2500, 200, 50, 5, 50_000, 2
PLAYERS = 20  # of exact enumeration
BUDGETS = (512, 2048, 8192, 50_000)
SEEDS = 3
HEAD_SCALE = 3.0  # of the random last layer: then its rows are as long as those of a trained ResNet-50
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def world() -> tuple[Any, NDArray[np.uint8], NDArray[np.bool_]]:
    """The network, a photograph (224, 224, 3) and its masks (n, 224, 224)."""
    import torch
    from skimage import data

    from components.images import resized
    from components.models.backbones.torchvision import Torchvision
    from components.models.network import to_pixels
    from components.models.segmenters.slic import Slic
    from components.stage import ImageRecord

    photograph = data.astronaut()
    image = resized(photograph, 224)
    masks = Slic(n_segments=56).segment(image, ImageRecord(0, None))  # type: ignore[arg-type]
    network = Torchvision(architecture="resnet50").build(None, 224, seed=0).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean over what follows
    stream = np.random.default_rng(0)
    corners = stream.integers(0, 512 - 224, (24, 2))
    crops = np.stack([photograph[y : y + 224, x : x + 224] for y, x in corners])
    with torch.no_grad():
        network(to_pixels(crops, "cpu"))
        network.head.weight *= HEAD_SCALE
    return network.eval(), image, masks


def measure() -> None:
    """Prints the comparison."""
    import torch

    torch.set_num_threads(1)
    network, image, masks = world()
    n, stream = len(masks), np.random.default_rng(1)
    coalitions = stream.random((COALITIONS, n)) < 0.5
    forward, label = forwards(network, image, masks, coalitions)
    fitted, game = surrogates(network.head, coalitions, label)
    valued = mask_values(network.head, game, n, label)
    official, ours = (sum(part) for part in zip(forward, fitted, valued, strict=True))
    print(
        f"  {n} masks, whole without segmenter: {official:.0f} s, ours {ours:.1f} s: {official / ours:.2f} x"
    )
    estimators(game)


def forwards(
    network: Any, image: NDArray[np.uint8], masks: NDArray[np.bool_], coalitions: NDArray[np.bool_]
) -> tuple[tuple[float, float], int]:
    """Seconds of both for all coalitions, and the class."""
    import torch

    from benchmarks.peers import eac_official
    from components.models.batch_norm_folding import folded
    from components.models.masked_images import MaskedImage, probabilities, regions, shown_regions

    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    region, members = regions(masks)
    whole = MaskedImage(image, np.zeros_like(image), region, np.ones((1, len(members)), bool))
    label = int(next(probabilities(network, [whole], "cpu")).argmax())
    some = coalitions[:TIMED]
    official, expected = timed(
        lambda: eac_official.masked_probabilities(
            lambda x: plain.head(plain.pool(plain.trunk(x))), image, masks, some, label
        )
    )
    network = folded(network.ready("cpu", torch.float32), 224)

    def shown() -> NDArray[np.float32]:
        region, members = regions(masks)
        picture = MaskedImage(image, np.zeros_like(image), region, shown_regions(some, members))
        return next(probabilities(network, [picture], "cpu"))[:, label]

    ours, found = timed(shown)
    gap = np.abs(found - expected.numpy()).max()
    scale = COALITIONS / TIMED
    print(
        f"  {COALITIONS} masked forwards (scaled from {TIMED}): {official * scale:.0f} s, ours"
        f" {ours * scale:.0f} s: {official / ours:.2f} x; largest difference of a probability {gap:.1e}"
        f" (sd {found.std():.2f})",
        flush=True,
    )
    return (official * scale, ours * scale), label


def surrogates(head: Any, coalitions: NDArray[np.bool_], label: int) -> tuple[tuple[float, float], Any]:
    """Seconds of both for all epochs, and our surrogate. Targets are planted: a saturating function of a few
    masks and pairs of them, since random weights recognise nothing."""
    import torch

    from benchmarks.peers import eac_official
    from components.models.surrogate import Head, fit_surrogate
    from components.surrogate import Surrogate

    n = coalitions.shape[1]
    bits = coalitions[n:]
    score = 6 * bits[:, 0] * bits[:, 1] + bits[:, 2:PLAYERS] @ np.linspace(2, -0.5, PLAYERS - 2) - 10
    wanted = (1 / (1 + np.exp(-score))).astype(np.float32)
    own = Head(head.weight.detach(), head.bias.detach())
    stream = np.random.default_rng(0)
    start = torch.from_numpy(stream.uniform(-1, 1, (head.in_features, n + 1)) / np.sqrt(n)).float()
    orders = [
        [
            torch.from_numpy(rows)
            for rows in np.split(stream.permutation(len(bits)), range(100, len(bits), 100))
        ]
        for _ in range(TIMED_EPOCHS)
    ]
    plain = eac_official.surrogate(copy.deepcopy(head), start)
    official, _ = timed(lambda: eac_official.train(plain, bits, torch.from_numpy(wanted), label, orders))
    short = fit_surrogate(bits, wanted, own, label, Surrogate(epochs=TIMED_EPOCHS), np.random.default_rng(0))
    with torch.no_grad():
        expected = plain(torch.from_numpy(bits).float()).softmax(1)[:, label].numpy()
    gap = np.abs(short(bits) - expected).max()
    ours, game = timed(lambda: fit_surrogate(bits, wanted, own, label, Surrogate(), np.random.default_rng(0)))
    official *= EPOCHS / TIMED_EPOCHS
    print(
        f"  surrogate, {EPOCHS} epochs (official scaled from {TIMED_EPOCHS}): {official:.1f} s, ours"
        f" {ours:.2f} s: {official / ours:.1f} x; largest difference after {TIMED_EPOCHS} epochs {gap:.1e}",
        flush=True,
    )
    return (official, ours), game


def mask_values(head: Any, game: Any, n: int, label: int) -> tuple[float, float]:
    """Seconds of both for all masks, at the official number of samples and at our default."""
    import torch

    from benchmarks.peers import eac_official
    from components import shapley

    start = torch.zeros(head.in_features, n + 1)
    plain = eac_official.surrogate(copy.deepcopy(head), start)  # what it costs does not depend on its weights
    official, _ = timed(lambda: eac_official.values(plain, n, label, range(TIMED_MASKS)))
    official *= n / TIMED_MASKS
    stream = np.random.default_rng(0)
    same, _ = timed(lambda: shapley.shared(game, n, "banzhaf", SAMPLES, stream))
    ours, _ = timed(lambda: shapley.shared(game, n, "banzhaf", 8192, stream, "sobol"))
    print(
        f"  values of {n} masks, {SAMPLES} samples (official scaled from {TIMED_MASKS} masks):"
        f" {official:.0f} s, shared {same:.3f} s: {official / same:.0f} x; by default (Sobol, 8192)"
        f" {ours:.3f} s: {official / ours:.0f} x",
        flush=True,
    )
    return official, ours


def estimators(game: Any) -> None:
    """The error of each estimator against exact enumeration by its seconds; the official one is run on the
    game as we evaluate it."""
    from components import shapley
    from components.models.surrogate import SoftmaxGame

    game = SoftmaxGame(game._weight[:PLAYERS].T, game._bias, game._label)
    for value in ("banzhaf", "shapley"):
        seconds, truth = timed(lambda v=value: shapley.exact(game, PLAYERS, v))  # type: ignore[misc]
        print(f"  {value} of {PLAYERS} masks, exact {seconds:.1f} s, largest {np.abs(truth).max():.3f}")
        for name, estimate in ways(game, value):
            errors, spent = [], 0.0
            for seed in range(SEEDS):
                seconds, found = timed(lambda e=estimate, s=seed: e(np.random.default_rng(s)))  # type: ignore[misc]
                errors.append(found - truth)
                spent += seconds / SEEDS
            rmse = float(np.sqrt(np.mean(np.square(errors))))
            print(
                f"    {name:22s} {spent:7.4f} s  rmse {rmse:.1e}  rmse x sqrt(s) {rmse * spent**0.5:.1e}",
                flush=True,
            )


def ways(game: Any, value: Any) -> list[tuple[str, Callable[[np.random.Generator], NDArray[np.float64]]]]:
    """Estimators by name and number of samples."""
    from components import shapley

    found: list[tuple[str, Callable[[np.random.Generator], NDArray[np.float64]]]] = [
        (f"{how} {m}", lambda stream, m=m, how=how: shapley.shared(game, PLAYERS, value, m, stream, how))  # type: ignore[misc]
        for how in ("independent", "antithetic", "sobol")
        for m in BUDGETS
    ]
    found += [
        (f"kernel {m}", lambda stream, m=m: shapley.kernel(game, PLAYERS, value, m, stream))  # type: ignore[misc]
        for m in BUDGETS
    ]
    if value == "shapley":
        return [
            *found,
            *(
                (f"permutation {m}", lambda stream, m=m: shapley.permutation(game, PLAYERS, m, stream))  # type: ignore[misc]
                for m in (100, 1000, 2500)
            ),
        ]
    return [
        *found,
        ("official 50000", lambda stream: shapley.official(game, PLAYERS, value, SAMPLES, stream)),
    ]


def main() -> None:
    """Measures in a process of its own, which starts with the allocator's settings."""
    command = "from benchmarks.eac import measure; measure()"
    subprocess.run([sys.executable, "-c", command], env={**os.environ, **ENVIRONMENT}, check=True)


if __name__ == "__main__":
    main()
