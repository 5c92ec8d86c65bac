"""The masks of concepts in an image, from stored segments, and which concepts of a class are worth using
(docs/methods/guided_fine_tuning.md, eqs. 1-3). No model runs here: all of it is decided at read time.

n images, L classes, K concepts of the vocabulary, H W pixels of an image.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.data.card import DATASETS, Card, CardError
from components.data.columns import Data, Ids, ragged, ragged_vectors
from components.data.mask_files import IGNORE
from components.data.written import TextError, read_yaml
from components.pixels import masks
from components.pixels.bags import score_segments, top_concepts
from components.stage import Size
from components.studies.guided_fine_tuning.stages.class_concepts import ClassConcepts

SEGMENTS, CLIP_IMAGES, CLIP_TEXTS = "segments", "clip_images", "clip_texts"  # the method's names for stages
CLIP_SEGMENTS, CLASS_CONCEPTS, CLASS_SEGMENTS = "clip_segments", "class_concepts", "class_segments"

Booleans = NDArray[np.bool_]
Coverage = Literal["union", "each"]


@dataclass(frozen=True)
class ConceptRules:
    """Which segments are masks of which concepts: of an image's `k_top` concepts by CLIP those that a
    detector found with `box_threshold` or more; without a detector, a segment's is the most similar one."""

    k_top: int
    box_threshold: float


@dataclass(frozen=True)
class ImageConcepts:
    """size: (H, W) of an image; runs: the COCO run length of each concept that has a mask in it, by position
    in the vocabulary."""

    size: Size
    runs: dict[int, bytes]

    def union(self, concepts: Booleans) -> Booleans:
        """The mask (H, W) of all these concepts (K,) together; empty where none is in the image."""
        found = [run for concept, run in self.runs.items() if concepts[concept]]
        if not found:
            return np.zeros(self.size, bool)
        mask: Booleans = masks.decode([masks.union(found, *self.size)], *self.size)[0]
        return mask


@dataclass(frozen=True)
class ConceptChecks:
    """Of each class and concept (L, K): listed; occurrence, the share of the class's images in which the
    concept has a mask; coverage, the mean overlap (IoU) with the object of what was checked, the concept's
    masks or, for every concept that occurs often enough, the union of all these; NaN where none is known;
    kept, bool."""

    listed: Booleans
    occurrence: NDArray[np.float64]
    coverage: NDArray[np.float64]
    kept: Booleans

    def table(self, classes: Sequence[str], concepts: Sequence[str]) -> str:
        """The checks of all listed concepts of the classes that were checked, as CSV."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["class", "concept", "occurrence", "coverage", "kept"])
        for label, concept in np.argwhere(self.listed & ~np.isnan(self.occurrence)):
            shares = (self.occurrence[label, concept], self.coverage[label, concept])
            kept = int(self.kept[label, concept])
            rows.writerow([classes[label], concepts[concept], *(f"{share:.4f}" for share in shares), kept])
        return text.getvalue()


def concepts_by_class(card: Card, vocabulary: str) -> ClassConcepts | None:
    """The classes' own lists, from `<vocabulary>_by_class.yaml` beside the vocabulary: a list of its concepts
    under each class's name. None without such a file: then every class has the whole vocabulary.

    CardError for an unknown class or concept. A class that is not listed has no concept.
    """
    path = DATASETS / (card.vocabularies or card.name) / f"{vocabulary}_by_class.yaml"
    if not path.is_file():
        return None
    names = card.vocabulary(vocabulary)
    try:
        content = read_yaml(path)
    except TextError as error:
        raise CardError(str(error)) from error
    if not isinstance(content, dict) or not all(isinstance(listed, list) for listed in content.values()):
        raise CardError(f"{path.name} of {card.name}: expected a list of concepts under each class's name")
    for label, listed in content.items():
        unknown = [label] if label not in card.classes else [name for name in listed if name not in names]
        if unknown:
            raise CardError(f"{path.name} of {card.name}: {unknown[0]!r} is no class or not in {vocabulary}")
    positions = [
        tuple(sorted(names.index(name) for name in content.get(label, []))) for label in card.classes
    ]
    return ClassConcepts(concepts=tuple(positions), n_concepts=len(names))


def image_concepts(data: Data, ids: Ids, rules: ConceptRules, stage: str = SEGMENTS) -> list[ImageConcepts]:
    """The concepts of these images, in their order."""
    column = data[stage]
    table = column.read(ids, ["height", "width", "counts"])
    counts = table["counts"].to_pylist()
    if "concept" in column.fields:
        asked = column.read(ids, ["concept", "score", "rank"])
        concepts, scores, ranks = (ragged(asked[name])[0] for name in ("concept", "score", "rank"))
        counted = (ranks < rules.k_top) & (scores >= rules.box_threshold)
    else:
        per_image = np.array([len(runs) for runs in counts])
        vectors = ragged_vectors(data[CLIP_SEGMENTS].read(ids, ["embedding"])["embedding"])[0]
        texts = data.tensors(CLIP_TEXTS)["embedding"]
        allowed = top_concepts(data[CLIP_IMAGES].array("embedding", ids) @ texts.T, rules.k_top)
        concepts, _ = score_segments(vectors @ texts.T, np.repeat(allowed, per_image, axis=0))
        counted = np.ones(len(concepts), bool)
    found, start = [], 0
    for row, runs in enumerate(counts):
        size = (int(table["height"][row].as_py()), int(table["width"][row].as_py()))
        of_row = slice(start, start + len(runs))
        found.append(ImageConcepts(size, _by_concept(runs, concepts[of_row], counted[of_row], size)))
        start += len(runs)
    return found


def _by_concept(runs: list[bytes], concepts: Ids, counted: Booleans, size: Size) -> dict[int, bytes]:
    of: dict[int, list[bytes]] = {}
    for run, concept, counts in zip(runs, concepts, counted, strict=True):
        if counts:
            of.setdefault(int(concept), []).append(run)
    return {concept: masks.union(parts, *size) for concept, parts in of.items()}


def listed_concepts(data: Data) -> Booleans:
    """Which concepts belong to which class, by the stage of their lists if there is one: (L, K)."""
    try:
        return np.asarray(data.tensors(CLASS_CONCEPTS)["listed"], bool)
    except KeyError:
        return np.ones((len(data.card.classes), len(data.tensors(CLIP_TEXTS)["embedding"])), bool)


def object_mask(
    data: Data, image_id: int, rules: ConceptRules, label: int, by_name: bool = False
) -> Booleans | NDArray[np.uint8] | None:
    """The mask (H, W) of an image's object: the data set's own, 0, 1 and IGNORE; `by_name`, or if it has
    none, what a detector found by the class's name. None where there is no such mask of this image."""
    (row,) = data.rows(np.array([image_id]))
    if data.index.masks is not None and not by_name:
        return data.object_mask(int(row))
    (found,) = image_concepts(data, np.array([image_id]), rules, CLASS_SEGMENTS)
    return found.union(np.arange(len(data.card.classes)) == label) if label in found.runs else None


def check_concepts(
    data: Data,
    ids: Ids,
    labels: Ids,
    rules: ConceptRules,
    min_occurrence: float,
    min_coverage: float,
    coverage: Coverage = "union",
) -> ConceptChecks:
    """Both checks, on these images of classes `labels` (n,). A concept is kept if it passes both; one whose
    overlap with the object is nowhere known passes the second, as with `min_coverage` 0 all do. coverage: of
    the `union` of the masks of all concepts that pass the first, so that a class keeps all of them or none,
    or of `each` concept's masks alone."""
    listed = listed_concepts(data)
    known_objects = min_coverage > 0 or data.card.masks is not None  # else no stage has looked for them
    occurrence, covered = (np.full(listed.shape, np.nan) for _ in range(2))
    for label in np.unique(labels):
        members = ids[labels == label]
        images = image_concepts(data, members, rules)
        occurs = [[concept in image.runs for concept in range(listed.shape[1])] for image in images]
        occurrence[label] = np.where(listed[label], np.mean(occurs, axis=0), 0)
        frequent = listed[label] & (occurrence[label] > 0) & (occurrence[label] >= min_occurrence)
        truths = [
            object_mask(data, int(image_id), rules, int(label)) if known_objects else None
            for image_id in members
        ]
        if coverage == "union":
            covered[label, frequent] = _mean_overlap(images, truths, frequent)
            continue
        for concept in np.flatnonzero(listed[label]):
            covered[label, concept] = _mean_overlap(images, truths, np.arange(listed.shape[1]) == concept)
    kept = listed & (occurrence >= min_occurrence) & ~(covered < min_coverage)
    return ConceptChecks(listed, occurrence, covered, kept)


def _mean_overlap(
    images: Sequence[ImageConcepts],
    truths: Sequence[Booleans | NDArray[np.uint8] | None],
    concepts: Booleans,
) -> float:
    """Mean IoU of the masks of these concepts (K,) together with the object, over the images that have such a
    mask and a known object; pixels to ignore count nowhere. NaN without any."""
    overlaps = []
    for image, truth in zip(images, truths, strict=True):
        found = [run for concept, run in image.runs.items() if concepts[concept]]
        if found and truth is not None and truth.shape == image.size:
            together, ignored = masks.union(found, *image.size), truth == IGNORE
            if ignored.any():
                together = masks.without(together, masks.encode(ignored[None])[0], *image.size)
            overlaps.append(masks.iou_with(masks.encode(truth[None] == 1)[0], [together], *image.size)[0])
    return float(np.mean(overlaps)) if overlaps else float("nan")
