"""Answers about one image from what a finished trial and its stages stored; no model sees an image."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from components.data.images import decode
from components.pixels.frames import framed, framed_mask
from components.studies.concept_bottleneck.concept_bottleneck import ConceptBottleneck, final_layer
from components.studies.concept_bottleneck.final.weight_edit import corrected_and_broken, edit_weight
from components.studies.concept_bottleneck.maps.concept_maps import box_region, point_region
from components.studies.concept_bottleneck.maps.regions import HasConceptMaps, explain_region, in_frame
from grid.refused import Refused
from grid.trials.finished import FinishedTrial, row_of

Answer = dict[str, Any]
Pixels = NDArray[np.uint8]
SHOWN = 5  # classes, by probability


@dataclass(frozen=True)
class Question:
    """What is asked of an image; lengths in pixels of the image."""

    image_id: int
    point: str | None
    box: str | None
    mask: Path | None
    concept: str | None
    beta: float | None
    edit: str | None
    top: int

    @property
    def region(self) -> str | None:
        """What of the image is asked about, in words; None: all of it."""
        given = [("point", self.point), ("box", self.box), ("mask", self.mask)]
        words = [f"{name} {value}" for name, value in given if value is not None]
        if len(words) > 1:
            raise Refused("give one of --point, --box and --mask")
        return words[0] if words else None


def ask(trial: FinishedTrial, question: Question) -> tuple[Answer, Pixels | None]:
    """The answer by its names, and a picture of it where concepts have a place. Refused, in one line, if the
    trial cannot answer."""
    data, method = trial.data, trial.method
    if not isinstance(method, ConceptBottleneck) and (question.concept or question.edit):
        raise Refused(f"{trial.method_name} has no final layer on concepts that could be edited")
    row = row_of(data, question.image_id)
    if (question.concept is None) != (question.beta is None):
        raise Refused("give --concept and --beta together")
    label = int(data.index.labels[row])
    answer: Answer = {"trial": trial.id, "method": trial.method_name, "image": question.image_id}
    answer |= {"class": data.card.classes[label], "region": question.region or "the whole frame"}
    picture: Pixels | None = None
    if isinstance(method, ConceptBottleneck) and isinstance(method, HasConceptMaps):
        found, picture = _of_region(trial, question, method, label, row)
    else:
        found = _of_image(trial, question)
    answer |= found
    if question.edit is not None:
        answer["edit"] = _edited(trial, question.edit, question.image_id, label)
    return answer, picture


def _of_region(
    trial: FinishedTrial, question: Question, method: HasConceptMaps, label: int, row: int
) -> tuple[Answer, Pixels]:
    from components.studies.concept_bottleneck.maps.pictures import draw_region

    data, names, classes = trial.data, trial.fitted.facts["concepts"], trial.data.card.classes
    side, head = data.card.image_size, method.head(trial.fitted)
    image = decode(data.index.path(row))
    region = _region(question, image.shape[:2], side, method)
    edit = None
    if question.concept is not None and question.beta is not None:
        edit = (_position(question.concept, names), question.beta)
    maps = method.maps(trial.fitted, data, np.array([question.image_id]))[0]
    explained = explain_region(head, maps, region, label, question.top, method.middles(side), edit)
    pixels = framed(image, side, method.frame)
    picture = draw_region(pixels, explained, question.region or "the whole frame", names, classes)
    strengths = zip(explained.concepts.tolist(), explained.activations.tolist(), strict=True)
    answer: Answer = {
        "concepts": [{"concept": names[c], "activation": value} for c, value in strengths],
        "before": _probabilities(explained.intervention.before, classes),
    }
    if edit is not None:
        answer |= {"raised": question.concept, "beta": question.beta}
        answer["after"] = _probabilities(explained.intervention.after, classes)
        answer["sign_violation"] = bool(explained.intervention.sign_violations.any())
    return answer, picture


def _region(
    question: Question, size: tuple[int, int], side: int, method: HasConceptMaps
) -> NDArray[np.bool_]:
    """The region (S, S) of the frame that the question names; Refused if nothing of it is there."""
    height, width = size
    if question.mask is not None:
        if not question.mask.is_file():
            raise Refused(f"no mask {question.mask}")
        try:
            with Image.open(question.mask) as file:
                inside = np.asarray(file.convert("L")) > 0
        except (OSError, Image.DecompressionBombError) as error:
            raise Refused(f"mask {question.mask} is not a picture that can be read") from error
        if inside.shape != size:
            raise Refused(f"mask of {inside.shape[1]}x{inside.shape[0]} pixels, image of {width}x{height}")
        region = framed_mask(inside, side, method.frame) > 0
    elif question.point is not None:
        x, y = _numbers("point", question.point, 2)
        left, top, *_ = in_frame((x, y, x, y), size, side, method.frame)
        if not (0 <= x < width and 0 <= y < height):
            raise Refused(f"the point {question.point} lies outside an image of {width}x{height} pixels")
        region = point_region(min(left, side - 0.5), min(top, side - 0.5), side)
    elif question.box is not None:
        left, top, right, bottom = _numbers("box", question.box, 4)
        region = box_region(in_frame((left, top, right, bottom), size, side, method.frame), side)
    else:
        region = np.ones((side, side), dtype=bool)
    if not region.any():
        raise Refused(f"the region is empty: {question.region} has no pixel in the frame that the model sees")
    return region


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise Refused(f"--{name} {text!r}: expected {count} numbers with commas between them")
    return values


def _of_image(trial: FinishedTrial, question: Question) -> Answer:
    """What a method without concept maps says."""
    if question.region is not None:
        raise Refused(f"{trial.method_name} has no concept maps: ask about the whole image, with no region")
    if not isinstance(trial.method, ConceptBottleneck):
        raise Refused(f"{trial.method_name} has no concept bottleneck to ask: see the pictures in its report")
    explanations = trial.method.explain(trial.fitted, trial.data, [question.image_id])
    (explanation,) = explanations
    order = np.argsort(-np.abs(explanation.weights), kind="stable")[: question.top]
    answer: Answer = {
        "predicted": explanation.title,
        "contributions": [
            {
                "concept": explanation.captions[i].removesuffix(f" {explanation.weights[i]:+.2f}"),
                "contribution": float(explanation.weights[i]),
            }
            for i in order
        ],
    }
    if question.concept is None or question.beta is None:
        return answer
    logits, concepts = _logits(trial, np.array([question.image_id]))
    raised = concepts.copy()
    raised[:, _position(question.concept, trial.fitted.facts["concepts"])] += question.beta
    weight, classes = final_layer(trial.fitted).weight, trial.data.card.classes
    before, after = logits[0], logits[0] + (raised - concepts)[0] @ weight.T
    answer |= {"raised": question.concept, "beta": question.beta, "sign_violation": False}
    return {**answer, "before": _probabilities(before, classes), "after": _probabilities(after, classes)}


def _logits(trial: FinishedTrial, ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits (n, L) and standardised concepts (n, M) of usable images."""
    method = trial.method
    assert isinstance(method, ConceptBottleneck)
    concepts = method.concepts(trial.fitted, trial.data, ids)
    return method.logits(trial.fitted, trial.data, ids, concepts), concepts


def _edited(trial: FinishedTrial, name: str, image_id: int, label: int) -> Answer:
    """LF-CBM's edit of the final layer, and what it does to the other images of the validation split."""
    names, classes = trial.fitted.facts["concepts"], trial.data.card.classes
    concept, weight = _position(name, names), final_layer(trial.fitted).weight
    logits, concepts = _logits(trial, np.array([image_id]))
    beside = logits[0] - concepts[0] @ weight.T  # the bias, and what a method adds beside its concepts
    try:
        edit = edit_weight(weight, beside, concepts[0], label, concept)
    except ValueError as error:
        raise Refused(f"image {image_id}, concept {name!r}: {error}") from error
    val = trial.data.usable_split("val")
    others = val.ids != image_id
    before, concepts = _logits(trial, val.ids[others])
    after = before + concepts @ (edit.weight - weight).T
    corrected, broken = corrected_and_broken(before.argmax(1), after.argmax(1), val.labels[others])
    return {
        "concept": name,
        "for": classes[label],
        "against": classes[edit.predicted],
        "delta": edit.delta,
        "validation_images": int(others.sum()),
        "corrected": corrected,
        "broken": broken,
    }


def _position(concept: str, names: list[str]) -> int:
    """Of a concept among those that the trial kept; Refused with the closest names."""
    if concept in names:
        return names.index(concept)
    closest = difflib.get_close_matches(concept, names, n=3, cutoff=0.4)
    hint = f"; the closest: {', '.join(closest)}" if closest else ""
    raise Refused(f"unknown concept {concept!r}: the trial has {len(names)}{hint}")


def _probabilities(logits: NDArray[Any], classes: tuple[str, ...]) -> dict[str, float]:
    """Of the most probable classes."""
    values = softmax(logits.astype(np.float64))
    return {classes[i]: float(values[i]) for i in np.argsort(-values, kind="stable")[:SHOWN]}
