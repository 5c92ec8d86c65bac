"""The failures of SEG-MIL-CBM that are worth a look, with their reasons, as pictures."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from components.data.columns import Data
from components.evaluation.pictures import HOT, SIDE, draw
from components.method import Picture
from components.studies.seg_mil.bag_tensors import BagTensors, chosen_bags
from components.studies.seg_mil.explanation import deciding_attention, evidence_maps, explain_bags, opposed
from components.studies.seg_mil.head import MilHead, of_class
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.objects import object_overlap

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Failure:
    """A wrong bag: its row, its image; `confidence` is the probability of the class predicted, `reason` one
    of `objects`."""

    row: int
    image_id: int
    confidence: float
    reason: str


def failures(head: MilHead, data: Data, bags: BagTensors, per_group: int = 1) -> list[Failure]:
    """Of each group the wrong bags with the highest confidence, at most `per_group`, group by group."""
    logits, output = run_head(head, bags)
    predicted, rival = opposed(logits, bags.labels)
    confidence = torch.from_numpy(logits).double().softmax(dim=1).amax(dim=1).numpy()
    wrong = np.flatnonzero(predicted.numpy() != bags.labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    of_groups = [wrong[bags.groups[wrong] == group][:per_group] for group in np.unique(bags.groups)]
    rows = np.concatenate([wrong[:0], *of_groups])
    attention = deciding_attention(output, predicted, rival)[rows]
    few = chosen_bags(bags, rows).bags
    reasons = object_overlap(data, few).reasons(attention, few.areas)
    return [
        Failure(int(row), int(bags.bags.ids[row]), float(confidence[row]), reason)
        for row, reason in zip(rows, reasons, strict=True)
    ]


def failure_pictures(
    method: SegMilKnobs,
    head: MilHead,
    data: Data,
    bags: BagTensors,
    trusted: Collection[str],
    per_group: int = 1,
) -> list[Picture]:
    """The failures as pictures: what `explain_bags` says, drawn, and beneath it where the evidence lies that
    speaks for the predicted class, and where that for the true one: the difference of both, as a softmax
    sees no more, by `evidence_maps`; in numbers, the sum over the segments that speak for the class."""
    found = failures(head, data, bags, per_group)
    if not found:
        return []
    few = chosen_bags(bags, np.array([failure.row for failure in found]))
    logits, output = run_head(head, few)
    predicted, true = opposed(logits, few.labels)
    margins = (of_class(output.evidence, predicted) - of_class(output.evidence, true)).numpy()
    images = data.images(few.bags.ids)
    pictures = []
    for row, explanation in enumerate(explain_bags(method, head, data, few, trusted)):
        image = next(images)
        margin = np.stack([margins[row], -margins[row]], axis=1)[few.bags.valid[row]]
        totals = zip((predicted[row], true[row]), margin.clip(0).sum(axis=0), strict=True)
        left, right = (f"for {data.card.classes[y]} {total:.2f}" for y, total in totals)
        above, said = draw(image, explanation)
        evidence = draw_evidence(image, evidence_maps(margin, explanation.masks.astype(bool)))
        group = data.index.group_names[few.groups[row]]
        caption = (
            f"image {explanation.image_id}, {group}: predicted {explanation.title}, "
            f"confidence {found[row].confidence:.2f}"
        )
        pictures.append(
            Picture(
                f"failure-{explanation.image_id}",
                np.concatenate([above, evidence]),
                "\n".join([caption, *said, f"beneath: evidence {left} (left), {right} (right)"]),
            )
        )
    return pictures


def draw_evidence(image: Pixels, maps: NDArray[np.float64]) -> Pixels:
    """The photograph in grey, once for each map (C, H, W), and over it what is above 0, all on one scale:
    uint8 (SIDE, C SIDE, 3)."""
    panels = Image.new("RGB", (len(maps) * SIDE, SIDE))
    grey = np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE)), float)[..., None]
    heats = np.clip(maps, 0, None) / max(float(maps.max()), 1e-12)
    for panel, heat in enumerate(heats):
        large = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        mixed = grey + (HOT - grey) * 0.65 * np.asarray(large)[..., None]
        panels.paste(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)), (panel * SIDE, 0))
    return np.asarray(panels)
