"""EAC: CPU seconds of one thread for one image, against the official steps, and the estimators' errors.

ResNet-50 with random weights and calibrated batch norms, a photograph in SLIC segments; both sides get the
same masks, coalitions, surrogate's start and batches, in turn, in one process with the allocator that keeps
large temporaries; medians of REPEATS rounds. Forwards of both sides and the official surrogate and values are
timed on a part of the coalitions, epochs and masks, and scaled. The official steps run in large batches, as
they are; beside them their forwards in batches of our size, and ours without the making of pictures.
Then each estimator's error against exact enumeration (`explanations.estimators`), and how many forwards
the classifier needs at equal error (`explanations.forwards`).
`python -m benchmarks.eac [FOLDER]`: about twenty-five minutes; with a folder, plots go there.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.explanations import estimators
from benchmarks.explanations import forwards as forwards_needed
from benchmarks.explanations.timing import interleaved
from benchmarks.sparse_layer import ENVIRONMENT

COALITIONS, EPOCHS, SAMPLES = 2500, 50, 50_000
REPEATS = 3
OFFICIAL_BATCH, OUR_BATCH = 200, 16  # the official one is 500: 200 take less memory
TIMED, TIMED_EPOCHS, TIMED_MASKS = 64, 5, 1
PLANTED = 20  # masks that count
HEAD_SCALE = 3.0  # of the random last layer: then its rows are as long as those of a trained ResNet-50


def world() -> tuple[Any, NDArray[np.uint8], NDArray[np.bool_]]:
    """The network, a photograph (224, 224, 3) and its masks (n, 224, 224)."""
    import torch
    from skimage import data

    from components.data.images import resized
    from components.models.networks.backbones.torchvision import Torchvision
    from components.models.networks.network import to_pixels
    from components.models.segmentation.segmenters.slic import Slic
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


def measure(folder: str = "") -> None:
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
        f"  {n} masks, whole without segmenter: {official:.0f} s, ours {ours:.1f} s: {official / ours:.2f} x",
        flush=True,
    )
    place = Path(folder) if folder else None
    estimators.measure(game, place)
    per_forward = forward[1] / COALITIONS
    for name, (enough, beside) in forwards_needed.measure(place, per_forward).items():
        asked = f"  {name}, at the error of EAC's way with {COALITIONS} forwards, the Gaussian process"
        if np.isinf(enough):
            print(f"{asked} needs more")
            continue
        ours = enough * per_forward + beside
        print(f"{asked} with {enough:.0f}: {official:.0f} s, ours {ours:.1f} s: {official / ours:.1f} x")


def forwards(
    network: Any, image: NDArray[np.uint8], masks: NDArray[np.bool_], coalitions: NDArray[np.bool_]
) -> tuple[tuple[float, float], int]:
    """Seconds of both for all coalitions, and the class."""
    import torch

    from benchmarks.peers import eac_official
    from components.studies.explanations.batch_norm_folding import folded
    from components.studies.explanations.masked_images import (
        MaskedImage,
        probabilities,
        regions,
        shown_regions,
    )

    contiguous = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    network = folded(network.ready("cpu", torch.float32), 224)
    region, members = regions(masks)

    def shown(rows: NDArray[np.bool_]) -> NDArray[np.float32]:
        picture = MaskedImage(image, np.zeros_like(image), region, rows)
        return next(probabilities(network, [picture], "cpu"))

    label = int(shown(np.ones((1, len(members)), bool))[0].argmax())

    def official(m: int, batch_size: int) -> NDArray[np.float32]:
        def model(x: torch.Tensor) -> torch.Tensor:
            return contiguous.head(contiguous.pool(contiguous.trunk(x)))  # type: ignore[no-any-return]

        found = eac_official.masked_probabilities(model, image, masks, coalitions[:m], label, batch_size)
        return found.numpy()

    def ours() -> NDArray[np.float32]:
        return shown(shown_regions(coalitions[:TIMED], members))[:, label]

    normalised = torch.randn(OUR_BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(TIMED // OUR_BATCH):
                network.head(network.pool(network.trunk(normalised)))

    found = ours()
    gap = np.abs(found - official(TIMED, OUR_BATCH)).max()
    spent = interleaved(
        {
            "official": lambda: official(OFFICIAL_BATCH, OFFICIAL_BATCH),
            "small": lambda: official(TIMED, OUR_BATCH),
            "ours": ours,
            "bare": bare,
        },
        REPEATS,
    )
    counts = {"official": OFFICIAL_BATCH}
    each = {way: median(seconds) / counts.get(way, TIMED) for way, seconds in spent.items()}
    official_ms, small_ms, our_ms, bare_ms = (1e3 * each[way] for way in spent)
    print(
        f"  a masked forward: official {official_ms:.1f} ms in batches of {OFFICIAL_BATCH}, {small_ms:.1f} ms"
        f" of {OUR_BATCH}; ours {our_ms:.1f} ms of {OUR_BATCH}, the network alone {bare_ms:.1f} ms:"
        f" {official_ms / our_ms:.2f} x, at equal batches {small_ms / our_ms:.2f} x; largest difference of a"
        f" probability {gap:.1e} (sd {found.std():.2f})",
        flush=True,
    )
    return (each["official"] * COALITIONS, each["ours"] * COALITIONS), label


def surrogates(head: Any, coalitions: NDArray[np.bool_], label: int) -> tuple[tuple[float, float], Any]:
    """Seconds of both for all epochs, and our surrogate. Targets are planted: a saturating function of a few
    masks and pairs of them, since random weights recognise nothing."""
    import torch

    from benchmarks.peers import eac_official
    from components.studies.explanations.surrogate import Surrogate
    from components.studies.explanations.surrogate_network import Head, fit_surrogate

    n = coalitions.shape[1]
    bits = coalitions[n:]
    score = 6 * bits[:, 0] * bits[:, 1] + bits[:, 2:PLANTED] @ np.linspace(2, -0.5, PLANTED - 2) - 10
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

    def official() -> Any:
        plain = eac_official.surrogate(copy.deepcopy(head), start)
        eac_official.train(plain, bits, torch.from_numpy(wanted), label, orders)
        return plain

    def ours(epochs: int) -> Any:
        return fit_surrogate(bits, wanted, own, label, Surrogate(epochs=epochs), np.random.default_rng(0))

    trained = official()
    with torch.no_grad():
        expected = trained(torch.from_numpy(bits).float()).softmax(1)[:, label].numpy()
    gap = np.abs(ours(TIMED_EPOCHS)(bits) - expected).max()
    spent = interleaved({"official": official, "ours": lambda: ours(EPOCHS)}, REPEATS)
    theirs, mine = median(spent["official"]) * EPOCHS / TIMED_EPOCHS, median(spent["ours"])
    print(
        f"  surrogate, {EPOCHS} epochs (official scaled from {TIMED_EPOCHS}): {theirs:.1f} s, ours"
        f" {mine:.2f} s: {theirs / mine:.1f} x; largest difference after {TIMED_EPOCHS} epochs {gap:.1e}",
        flush=True,
    )
    return (theirs, mine), ours(EPOCHS)


def mask_values(head: Any, game: Any, n: int, label: int) -> tuple[float, float]:
    """Seconds of both for all masks, at the official number of samples and at our default."""
    import torch

    from benchmarks.peers import eac_official
    from components.studies.explanations import shapley

    start = torch.zeros(head.in_features, n + 1)
    plain = eac_official.surrogate(copy.deepcopy(head), start)  # what it costs does not depend on its weights
    stream = np.random.default_rng(0)
    spent = interleaved(
        {
            "official": lambda: eac_official.values(plain, n, label, range(TIMED_MASKS)),
            "blocks": lambda: eac_official.values(plain, n, label, range(TIMED_MASKS), block=5000),
            "same": lambda: shapley.shared(game, n, "banzhaf", SAMPLES, stream),
            "ours": lambda: shapley.shared(game, n, "banzhaf", 8192, stream, "sobol"),
        },
        REPEATS,
    )
    each = {way: median(seconds) for way, seconds in spent.items()}
    official, blocks = each["official"] * n / TIMED_MASKS, each["blocks"] * n / TIMED_MASKS
    print(
        f"  values of {n} masks, {SAMPLES} samples (official scaled from {TIMED_MASKS}): {official:.0f} s"
        f" ({blocks:.0f} s in blocks of 5000), shared {each['same']:.3f} s: {official / each['same']:.0f} x"
        f" ({blocks / each['same']:.0f} x); by default (Sobol, 8192) {each['ours']:.3f} s:"
        f" {official / each['ours']:.0f} x",
        flush=True,
    )
    return official, each["ours"]


def main(folder: str = "") -> None:
    """Measures in a process of its own, which starts with the allocator's settings."""
    command = f"from benchmarks.eac import measure; measure({folder!r})"
    subprocess.run([sys.executable, "-c", command], env={**os.environ, **ENVIRONMENT}, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
