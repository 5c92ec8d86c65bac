"""What a reader must know of a trained head beside its accuracies. n bags, N segments, C classes."""

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data
from components.method import Metric
from components.models.segmentation.segmenters.whole_image import WholeImage
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.concept_truth import concept_auc, concept_truth
from components.studies.seg_mil.explanation import deciding_attention, opposed
from components.studies.seg_mil.head import MilHead, of_class
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.objects import (
    CONCEPTS,
    ELSEWHERE,
    MISSED,
    OF_CONCEPTS,
    ObjectOverlap,
    object_overlap,
)
from components.studies.seg_mil.targets import best_constant_cosine, concept_cosine

Floats = NDArray[np.floating]
CONCENTRATED = 0.99  # attention above which one segment decides alone
MOST_FALLBACK = 0.1  # share of bags above which the segments have failed


def diagnostics(method: SegMilKnobs, head: MilHead, data: Data, bags: BagTensors, split: str) -> list[Metric]:
    """Attention is that of the predicted class; in the reasons, `deciding_attention`. The numbers are those
    of docs/methods/seg_mil.md, "Diagnostics", and docs/methods/seg_mil.md, "Attention on the object".

    concept_cosine, and above what a constant vector reaches; attention_entropy in nats;
    attention_concentrated: share of bags with an attention above CONCENTRATED; whole_image_fallback: share of
    bags, also by group; whole_image_fallback_too_often: 1 where that is above MOST_FALLBACK, so that results
    tell little of segments, else 0, as with `segmenter: whole_image`, which asks for it;
    segments_per_bag.
    On data sets with masks, over the images that have one, each also by group: attention_on_object, the share
    of attention that lies on the object (a segment that is half on it counts half); _by_area, what an
    attention in proportion to areas would have; _excess, the difference; object_covered, the share of the
    object in segments that lie mostly on it; object_best_iou, of one segment; and object_mask, the share of
    images that have one. Over the wrong ones among these: failures_missed, _elsewhere, _concepts, the share
    with that reason, of `objects`.
    On data sets that say which concepts an image shows: concept_auc, how well the head's concepts tell the
    segments that show them, by concept and as the mean of these; concept_auc_clip, of CLIP's cosines.
    """
    logits, output = run_head(head, bags)
    targets = head.targets(bags.similarities)
    cosine = concept_cosine(output.concepts, targets, bags.valid)
    constant = best_constant_cosine(targets, bags.valid)
    predicted, rival = opposed(logits, bags.labels)
    attention = of_class(output.attention, predicted).numpy()
    entropy = -(attention * np.log(np.maximum(attention, 1e-12))).sum(axis=1)
    everywhere = {
        "concept_cosine": float(cosine),
        "concept_cosine_above_constant": float(cosine - constant),
        "attention_entropy": _mean(entropy),
        "attention_concentrated": _mean(attention.max(axis=1) > CONCENTRATED),
        "segments_per_bag": _mean(bags.bags.valid.sum(axis=1)),
        "whole_image_fallback_too_often": _too_often(method, bags),
    }
    metrics = [
        *(Metric(name, value, split) for name, value in everywhere.items()),
        *_by_group("whole_image_fallback", bags.bags.fallback, bags.groups, data, split),
    ]
    overlap = object_overlap(data, bags.bags)
    if overlap.known.any():
        metrics += _of_objects(data, bags, overlap, attention, split)
        reasons = overlap.reasons(deciding_attention(output, predicted, rival), bags.bags.areas)
        wrong = overlap.known & (predicted.numpy() != bags.labels)
        for reason in (MISSED, ELSEWHERE, CONCEPTS):
            shares = np.array(reasons)[wrong] == reason
            metrics += _by_group(f"failures_{reason}", shares, bags.groups[wrong], data, split)
    if data.card.shows is not None:
        truth = concept_truth(data, bags.bags, method.vocabulary)
        for name, scores in zip(OF_CONCEPTS, (output.concepts, bags.similarities), strict=True):
            metrics += concept_auc(
                name, scores.numpy(), truth, data.card.vocabulary(method.vocabulary), split
            )
    return metrics


def _of_objects(
    data: Data, bags: BagTensors, overlap: ObjectOverlap, attention: Floats, split: str
) -> list[Metric]:
    attended, expected = overlap.attended(attention), overlap.expected(bags.bags.areas)
    values = {
        "attention_on_object": attended,
        "attention_on_object_by_area": expected,
        "attention_on_object_excess": attended - expected,
        "object_covered": overlap.covered,
        "object_best_iou": overlap.best_iou,
    }
    known = overlap.known
    metrics = [Metric("object_mask", _mean(known), split)]
    for name, of_image in values.items():
        metrics += _by_group(name, of_image[known], bags.groups[known], data, split)
    return metrics


def _by_group(
    name: str, values: NDArray[np.generic], groups: NDArray[np.int64], data: Data, split: str
) -> list[Metric]:
    """The mean of the values (n,) over all bags and over those of each group that occurs."""
    return [
        Metric(name, _mean(values), split),
        *(
            Metric(name, _mean(values[groups == group]), split, data.index.group_names[group])
            for group in np.unique(groups)
        ),
    ]


def _too_often(method: SegMilKnobs, bags: BagTensors) -> float:
    share = _mean(bags.bags.fallback)
    asked_for = isinstance(method.segmenter, WholeImage)
    return share if np.isnan(share) else float(share > MOST_FALLBACK and not asked_for)


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else float("nan")
