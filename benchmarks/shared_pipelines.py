"""Stages that share a pipeline, against each in one of its own."""

import tempfile
from pathlib import Path

from benchmarks.streams import photographs, run_stages
from components.models.clip.clip import Clip
from components.stages.clip_images import ClipImages
from grid.spec.spec import StageResources
from grid.stages.cluster import cluster
from grid.stores.artifacts import ArtifactStore

STAGE = ClipImages(clip=Clip(checkpoint="datasets/toybirds/clip"))
STAGES, IMAGES, SIDE, ROUNDS = 6, 1500, 64, 2
RESOURCES = StageResources(replicas=2, num_cpus=0.75, batch_size=64)


def main() -> None:
    """Prints seconds of both, in turn, and the ratio of the least: the small CLIP over small images, as in
    the studies on toy birds, where starting takes longer than the passes."""
    with tempfile.TemporaryDirectory() as folder, cluster(None) as total:
        index = photographs(Path(folder), IMAGES, SIDE, SIDE)
        store = ArtifactStore(str(Path(folder) / "store"))
        apart, shared = [], []
        for turn in range(ROUNDS):
            keys = [f"{turn}-{i}" for i in range(STAGES)]
            alone = [run_stages({f"{key}-alone": STAGE}, index, store, RESOURCES, total) for key in keys]
            apart.append(sum(alone))
            shared.append(run_stages(dict.fromkeys(keys, STAGE), index, store, RESOURCES, total))
            print(
                f"  {STAGES} stages of {IMAGES} images: {apart[-1]:.1f} s apart, {shared[-1]:.1f} s together"
            )
        print(f"  ratio {min(apart) / min(shared):.2f}")
