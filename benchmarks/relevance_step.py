"""Relevance fine-tuning: CPU seconds of one thread and memory of a CFT step, the official way and ours.

ViT-B/16 with random weights, 8 images of 224 pixels, the same map, loss and gradients on both sides, without
the optimiser's step, which is the same; each in processes of its own with the allocator that keeps large
temporaries, in turn. Beside them ours under bfloat16 autocast, and with the map of AttnLRP.
`python -m benchmarks.relevance_step [ARCHITECTURE]`: about five minutes for vit_base_patch16_224.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sparse_layer import ENVIRONMENT

if TYPE_CHECKING:
    import torch

ARCHITECTURE, BATCH, SIDE, CLASSES, STEPS = "vit_base_patch16_224", 8, 224, 1000, 2
WAYS = ("official", "gae", "gae bf16", "attnlrp_explicit", "attnlrp_cp")
GIB = 2**20  # of ru_maxrss, in KiB


def loss_of(masks: "torch.Tensor") -> "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]":
    """CFT's with its own weights, by the code's form of docs/methods/guided_fine_tuning.md, eq. 18, for masks
    (B, S, S); logarithms of what is clamped to [1e-6, 1 - 1e-6]."""
    from torch.nn.functional import cross_entropy

    def loss(maps: "torch.Tensor", logits: "torch.Tensor") -> "torch.Tensor":
        phi = maps.clamp(1e-6, 1 - 1e-6)
        outside, inside = ((1 - masks) * (1 - phi).log()).mean(), (masks * phi.log()).mean()
        return -0.8 * (1.2 * outside + 0.5 * inside) + 0.2 * cross_entropy(logits, logits.argmax(1).detach())

    return loss


def measure(way: str, architecture: str, folder: str) -> None:
    """In a process of its own: the steps, whose figures are printed as JSON and map and gradients saved."""
    import copy

    import torch

    from benchmarks.peers import cft_official
    from components.models.networks.backbones.timm import Timm
    from components.models.relevance.relevance import Relevance
    from components.studies.guided_fine_tuning.unit_maps import unit_maps
    from grid.names import component_class

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Timm(architecture=architecture).build(CLASSES, SIDE, seed=0).eval()
    pixels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE)).byte()
    classes, masks = torch.randint(0, CLASSES, (BATCH,)), torch.zeros(BATCH, SIDE, SIDE)
    masks[:, 60:150, 80:170] = 1
    loss = loss_of(masks)
    if way == "official":
        model = network.trunk.model
        model.head = network.head
        original = copy.deepcopy(model)
        maps = cft_official.attention_maps(model)
        x = (pixels.float() / 255 - network.mean) / network.std

        def step() -> torch.Tensor:
            return cft_official.step(model, original, maps, x, classes, loss)
    else:
        name, _, half = way.partition(" ")
        relevance: Relevance = component_class(Relevance.FOLDER, name)()

        def step() -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(half)):
                raw, logits = relevance.maps(network, pixels, classes)
            heat = unit_maps(raw.float(), SIDE)
            loss(heat, logits.float()).backward()
            return heat.detach()

    seconds = []
    for _ in range(STEPS):
        network.zero_grad(set_to_none=True)
        start = time.process_time()
        heat = step()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    named = ((name.removeprefix("trunk.model."), x.grad) for name, x in network.named_parameters())
    state = {name: gradient for name, gradient in named if gradient is not None}
    torch.save({"map": heat, **state}, Path(folder) / f"{way}.pt")
    print(json.dumps({"seconds": min(seconds), "peak": peak}))


def compared(folder: Path, way: str) -> tuple[float, float, float]:
    """Against the official way: the largest difference of the maps; of the parameters' gradients, each
    relative to its largest entry; and the cosine of all gradients together."""
    import torch

    theirs, ours = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("official", way))
    difference = float((theirs.pop("map") - ours.pop("map")).abs().max())
    assert theirs.keys() == ours.keys()
    worst = max(float((theirs[k] - ours[k]).abs().max() / theirs[k].abs().max()) for k in theirs)
    squares = [
        sum(float(torch.sum(a[k] * b[k], dtype=torch.float64)) for k in a)
        for a, b in ((theirs, ours), (theirs, theirs), (ours, ours))
    ]
    return difference, worst, squares[0] / (squares[1] * squares[2]) ** 0.5


def main(architecture: str = ARCHITECTURE) -> None:
    """Prints a line for each way, with its ratios to the official one."""
    print(f"  {architecture}, batch {BATCH}, best of {STEPS} steps", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        official: dict[str, float] = {}
        for way in WAYS:
            arguments = f"{way!r}, {architecture!r}, {folder!r}"
            done = subprocess.run(
                [sys.executable, "-c", f"from benchmarks import relevance_step as r; r.measure({arguments})"],
                env={**os.environ, **ENVIRONMENT},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            official = official or figures
            faster, larger = official["seconds"] / figures["seconds"], figures["peak"] / official["peak"]
            print(
                f"  {way:17} {figures['seconds']:6.2f} s, peak {figures['peak']:.2f} GiB:"
                f" {faster:.2f} x as fast, {larger:.2f} x the memory",
                flush=True,
            )
        for way in WAYS[1:3]:  # last: a process's peak begins at that of the one that started it
            map_, worst, cosine = compared(Path(folder), way)
            print(f"  {way:17} map within {map_:.1e}, gradients within {worst:.1e}, cosine {cosine:.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
