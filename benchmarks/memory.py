"""Memory of a pipeline over 20,000 small photographs: what the driver and the workers hold as it goes on.

Needs CONCEPTGRID_TEST_DATA with `cifar10-mini.tar`; its 4,000 photographs come five times, under new ids.
"""

import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import psutil

from benchmarks.streams import index_of, run_stages
from components.models.clip.clip import Clip
from components.stages.clip_images import ClipImages
from grid.planning.planned import PlannedStage
from grid.spec.spec import StageResources
from grid.stages.cluster import cluster
from grid.stores.artifacts import ArtifactStore

TIMES = 5
STAGE = ClipImages(clip=Clip(checkpoint="datasets/toybirds/clip"))
RESOURCES = StageResources(replicas=1, num_cpus=1, batch_size=64)
STEPS = 20
MIB = 2**20


def memory() -> tuple[float, float]:
    """MiB that the driver, and that all of Ray's workers together, hold for themselves alone."""
    driver = psutil.Process()
    workers = 0.0
    for process in psutil.process_iter(["name", "cmdline"]):
        try:
            if " ".join(process.info["cmdline"] or []).startswith("ray::"):
                workers += process.memory_full_info().uss / MIB
        except psutil.NoSuchProcess:  # a task's worker that ended meanwhile
            continue
    return driver.memory_full_info().uss / MIB, workers


def main() -> None:
    """Prints both at every twentieth of the way, and the growth over the last three quarters."""
    data = os.environ.get("CONCEPTGRID_TEST_DATA")
    if not data:
        print("  left out: CONCEPTGRID_TEST_DATA is not set")
        return
    with tempfile.TemporaryDirectory() as folder, cluster(None) as total:
        with tarfile.open(Path(data) / "cifar10-mini.tar") as archive:
            archive.extractall(folder)
        root = Path(folder) / "cifar10-mini"
        paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg")) * TIMES
        seen: list[tuple[int, float, float]] = []

        def progress(stage: PlannedStage, done: int) -> None:
            if done >= (len(seen) + 1) * stage.images / STEPS:
                seen.append((done, *memory()))

        store = ArtifactStore(str(Path(folder) / "store"))
        index = index_of(root, paths)
        seconds = run_stages({"clip": STAGE}, index, store, RESOURCES, total, progress=progress)
        print(f"  {len(paths)} images in {seconds:.0f} s")
        report(np.array(seen))


def report(seen: np.ndarray) -> None:
    """Rows of images done, MiB of the driver, MiB of the workers."""
    for done, driver, workers in seen:
        print(f"  {done:6.0f} images: driver {driver:6.0f} MiB, workers {workers:6.0f} MiB")
    settled = seen[len(seen) // 4 :]
    thousands = settled[:, 0] / 1000
    for column, name in ((1, "driver"), (2, "workers")):
        slope = np.polyfit(thousands, settled[:, column], 1)[0]
        print(f"  {name}: {slope:+.2f} MiB per 1,000 images, from the first quarter on")
