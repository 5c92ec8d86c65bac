"""Stage throughput: a column stage on Ray Data against a plain PyTorch loop over the same model and images.

Same process budget: the loop is one process with one torch thread and one DataLoader worker that decodes; the
stage is one replica with one thread, and Ray's tasks decode beside it. Two sizes give the fixed cost of a
pipeline and the cost of a batch.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.streams import photographs, run_stages
from components.data.images import ImageIndex
from components.models.networks.backbones.torchvision import Torchvision
from components.stages.backbone_images import BackboneImages
from components.stages.classifier import load_network
from grid.spec.spec import StageResources
from grid.stages.cluster import cluster
from grid.stores.artifacts import ArtifactStore

SIZE, BATCH = 224, 32
REPEATS = 3
COUNTS = (256, 1024)
STAGE = BackboneImages(backbone=Torchvision(architecture="squeezenet1_0"), classifier=None, image_size=SIZE)
RESOURCES = StageResources(replicas=1, num_cpus=1, batch_size=BATCH)


def decoded(path: Path) -> torch.Tensor:
    """uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


class Paths(torch.utils.data.Dataset[torch.Tensor]):
    """The images of an index, decoded."""

    def __init__(self, index: ImageIndex) -> None:
        self.paths = [index.path(row) for row in range(len(index))]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return decoded(self.paths[row])


def plain_loop(index: ImageIndex) -> tuple[float, float]:
    """Seconds of the loop from its start to the last feature, and seconds in the forward pass alone."""
    torch.set_num_threads(1)
    network = load_network(STAGE.backbone, None, {}, SIZE, "cpu")
    start, forward = time.perf_counter(), 0.0
    with torch.inference_mode():
        for batch in DataLoader(Paths(index), BATCH, num_workers=1):
            before = time.perf_counter()
            network.features(batch.permute(0, 3, 1, 2))
            forward += time.perf_counter() - before
    return time.perf_counter() - start, forward


def main() -> None:
    """Prints medians over repeats, interleaved."""
    with tempfile.TemporaryDirectory() as folder, cluster(None) as total:
        images = Path(folder) / "images"
        images.mkdir()
        store = ArtifactStore(str(Path(folder) / "store"))
        index = photographs(images, max(COUNTS), SIZE, SIZE)
        run_stages({"warm": STAGE}, index.rows(np.arange(BATCH)), store, RESOURCES, total)
        loops: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}
        stages: dict[int, list[float]] = {count: [] for count in COUNTS}
        for repeat in range(REPEATS):
            for count in COUNTS:
                part = index.rows(np.arange(count))
                loops[count].append(plain_loop(part))
                stages[count].append(run_stages({f"{count}-{repeat}": STAGE}, part, store, RESOURCES, total))
        report(loops, stages)


def report(loops: dict[int, list[tuple[float, float]]], stages: dict[int, list[float]]) -> None:
    """The ratio at the larger size, and the fixed and marginal cost of the stage over the loop."""
    small, large = COUNTS
    loop = {n: float(np.median([seconds for seconds, _ in loops[n]])) for n in COUNTS}
    forward = {n: float(np.median([seconds for _, seconds in loops[n]])) for n in COUNTS}
    pipe = {n: float(np.median(stages[n])) for n in COUNTS}
    for n in COUNTS:
        print(
            f"  {n} images: loop {loop[n]:.2f} s (forward {forward[n]:.2f} s), stage {pipe[n]:.2f} s,"
            f" stage throughput {forward[n] / pipe[n]:.2f} x bare forward, {loop[n] / pipe[n]:.2f} x loop"
        )
    per_image = (pipe[large] - pipe[small]) / (large - small)
    bare = (forward[large] - forward[small]) / (large - small)
    print(
        f"  fixed {pipe[small] - small * per_image:.2f} s per pipeline; then {bare / per_image:.2f} x bare"
        f" forward, {1000 * BATCH * (per_image - bare):.1f} ms per batch of {BATCH} over it"
    )
