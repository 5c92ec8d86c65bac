"""Foundation stages: full-size architectures with random weights, against the bare forward of the model.

The bare forward gets ready batches on the device, in this process; the stage reads and decodes photographs
of 500 x 375 and stores its column. One thread or one GPU on both sides, one side at a time; on a GPU, memory
and utilisation are sampled.
"""

import gc
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from segment_anything import build_sam_vit_b

from benchmarks.streams import index_of, photographs, run_stages
from components.data.columns import ERROR, IMAGE_ID
from components.data.images import ImageIndex
from components.models.clip.clip import IMAGES_AT_ONCE, Clip
from components.models.clip.clip_format import build_model, read_format
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.sam.sam_checkpoint import load_sam
from components.models.weights.precision import dtype_of
from components.pixels.bags import top_concepts
from components.stage import ColumnStage, fixed_size_lists, ragged_lists
from components.stages.box_segments import BoxSegments
from components.stages.boxes import Boxes
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from components.stages.clip_texts import ClipTexts
from grid.planning.planned import PlannedStage
from grid.spec.spec import StageResources
from grid.stages.cluster import cluster
from grid.stores.artifacts import ArtifactStore

HEIGHT, WIDTH, FILES = 375, 500, 64
BOXES, GRID = 20, 7
ARCHITECTURE = "ViT-B-16"


@dataclass(frozen=True)
class Case:
    """A stage, over how many images, its batch, and the bare forward: seconds for so many images."""

    name: str
    stage: ColumnStage
    images: int
    batch: int
    bare: Callable[[int], float]


def clip_checkpoint(folder: Path) -> Path:
    """open_clip's folder of ViT-B-16 with random weights."""
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    config = {
        "model_cfg": open_clip.get_model_config(ARCHITECTURE),
        "preprocess_cfg": {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def sam_checkpoint(path: Path) -> Path:
    """The official form of a ViT-B SAM with random weights."""
    torch.manual_seed(0)
    torch.save(build_sam_vit_b().state_dict(), path)
    return path


def timed(forward: Callable[[], Any], times: int, device: str) -> float:
    """Seconds of so many forwards, after one that is not counted."""
    with torch.inference_mode():
        forward()
        synchronise(device)
        start = time.perf_counter()
        for _ in range(times):
            forward()
        synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Waits for the GPU, where there is one."""
    if device == "cuda":
        torch.cuda.synchronize()


def bare_clip(checkpoint: Path, per_image: int, batch: int, device: str) -> Callable[[int], float]:
    """Of the image tower, on batches of normalised pixels; per_image: inputs that one image stands for."""

    def run(images: int) -> float:
        dtype = dtype_of("auto", device)
        model = build_model(read_format(str(checkpoint), None)).to(device, dtype)
        size = min(batch * per_image, IMAGES_AT_ONCE)
        pixels = torch.rand(size, 3, 224, 224, device=device).to(dtype)
        times = -(-images * per_image // size)
        seconds = timed(lambda: model.encode_image(pixels), times, device)
        return seconds * images * per_image / (times * size)

    return run


def bare_sam(checkpoint: Path, device: str) -> Callable[[int], float]:
    """Of image encoder, prompt encoder and mask decoder, with all boxes of an image in one pass."""

    def run(images: int) -> float:
        sam = load_sam(checkpoint, device, dtype_of("auto", device))
        pixels = torch.rand(1, 3, 1024, 1024, device=device)
        boxes = torch.tensor([[100.0, 100.0, 400.0, 500.0]] * BOXES, device=device)

        def forward() -> None:
            embedding = sam.image_encoder(pixels)
            sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
            sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)

        return timed(forward, images, device)

    return run


def cases(folder: Path, device: str) -> tuple[list[Case], dict[str, PlannedStage]]:
    """What is measured; more of it on a GPU."""
    clip = clip_checkpoint(folder / "clip")
    sam = sam_checkpoint(folder / "sam.pth")
    on_gpu = device == "cuda"
    model = Clip(checkpoint=str(clip), precision="bf16" if on_gpu else "fp32")
    images, texts = ClipImages(clip=model), ClipTexts(clip=model, texts=("bird",))
    boxes = Boxes(detector=GroundingDino(), images=images, texts=texts)
    segmenter = Sam(checkpoint=str(sam), precision=model.precision)
    one, places, few = (16384, 768, 384) if on_gpu else (160, 4, 5)
    batch, some = (256, 16) if on_gpu else (32, 2)
    found = [
        Case("clip_images", images, one, batch, bare_clip(clip, 1, batch, device)),
        Case(
            "clip_places",
            ClipPlaces(clip=model, grid_size=GRID),
            places,
            some,
            bare_clip(clip, GRID**2, some, device),
        ),
        Case("box_segments", BoxSegments(boxes=boxes, segmenter=segmenter), few, some, bare_sam(sam, device)),
    ]
    return found, {"boxes": PlannedStage("boxes", boxes, None, {}, {}, ())}


def store_boxes(store: ArtifactStore, index: ImageIndex) -> None:
    """BOXES boxes of every image, as the stage `boxes` would have written them."""
    stream = np.random.default_rng(0)
    count = len(index)
    corners = 0.8 * np.sort(stream.random((count * BOXES, 2, 2)), axis=1)
    corners[:, 1] += 0.2
    scaled = (corners * [WIDTH, HEIGHT]).reshape(-1, 4).astype(np.float32)
    per_image = [BOXES] * count
    ranked = top_concepts(stream.random((count * BOXES, 3)).astype(np.float32), 1)[:, 0]
    store.write_part(
        "boxes",
        pa.table(
            {
                IMAGE_ID: index.image_ids,
                ERROR: pa.nulls(count, pa.string()),
                "height": pa.array([HEIGHT] * count, pa.int32()),
                "width": pa.array([WIDTH] * count, pa.int32()),
                "box": ragged_lists(fixed_size_lists(scaled), per_image),
                "score": ragged_lists(pa.array(stream.random(count * BOXES), pa.float32()), per_image),
                "concept": ragged_lists(pa.array(ranked), per_image),
                "rank": ragged_lists(pa.array(ranked), per_image),
            }
        ),
    )


@contextmanager
def watched(device: str) -> Iterator[dict[str, float]]:
    """Peak MiB of the GPU and its mean utilisation in per cent while the block runs; nothing on CPUs."""
    seen: list[tuple[float, float]] = []
    over = threading.Event()
    facts: dict[str, float] = {}

    def sample() -> None:
        query = ["nvidia-smi", "--query-gpu=memory.used,utilization.gpu", "--format=csv,noheader,nounits"]
        while not over.wait(0.5):
            line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
            memory, busy = (float(part) for part in line.split(","))
            seen.append((memory, busy))

    sampler = threading.Thread(target=sample, daemon=True)
    if device == "cuda":
        sampler.start()
    try:
        yield facts
    finally:
        over.set()
        if seen:
            memory, busy = np.array(seen).T
            facts |= {"peak_mib": float(memory.max()), "utilisation": float(busy.mean())}


def main() -> None:
    """Prints, for each stage, images per second of both sides and their ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, cluster(None) as total:
        folder = Path(name)
        (folder / "images").mkdir()
        files = list(photographs(folder / "images", FILES, HEIGHT, WIDTH).paths)
        store = ArtifactStore(str(folder / "store"))
        measured, inputs = cases(folder, device)
        for case in measured:
            paths = (files * -(-case.images // FILES))[: case.images]
            index = index_of(folder / "images", paths)
            needed = inputs if "boxes" in case.stage.inputs() else {}
            if needed:
                store_boxes(store, index)
            print(line_of(case, index, store, total, needed, device), flush=True)


def line_of(
    case: Case,
    index: ImageIndex,
    store: ArtifactStore,
    total: Mapping[str, float],
    inputs: Mapping[str, PlannedStage],
    device: str,
) -> str:
    """Measures one stage: the bare forward, then the pipeline from its start to the published artifact."""
    bare = case.bare(case.images)
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    resources = StageResources(
        replicas=1, num_cpus=1, num_gpus=1 if device == "cuda" else 0, batch_size=case.batch
    )
    with watched(device) as facts:
        seconds = run_stages({case.name: case.stage}, index, store, resources, total, inputs)
    model = store.total(case.name, "seconds")
    extra = "".join(f", {name} {value:.0f}" for name, value in facts.items())
    return (
        f"  {case.name}: {case.images} images, bare forward {case.images / bare:.2f}/s,"
        f" stage {case.images / seconds:.2f}/s, {bare / seconds:.2f} x bare;"
        f" in the replica {model:.1f} s of {seconds:.1f} s, {bare / model:.2f} x bare{extra}"
    )
