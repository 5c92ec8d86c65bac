"""What fine-tuning changed: accuracies, of classes that were trained and others, and where the evidence lies.

n images, S pixels a side, g cells a side, C classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.data.shifted_index import ShiftedIndex
from components.evaluation.accuracies import accuracy_metrics, with_failures
from components.evaluation.object_heatmaps import object_pointing_metrics, segmentation_metrics
from components.evaluation.shifted_sets import IMAGES_AT_ONCE, PROTOCOLS, TOP, Rankings, rank, set_metrics
from components.method import LAST, Explanation, Fitted, Metric
from components.metrics.accuracy import average_accuracy
from components.models.networks.network import Network
from components.pixels.heat import Heat, unframed
from components.studies.guided_fine_tuning.knobs import FineTuningKnobs
from components.studies.guided_fine_tuning.loop import BEST, START
from components.studies.guided_fine_tuning.networks import fitted_network, logits_of, raw_maps
from components.studies.guided_fine_tuning.unit_maps import unit_maps

SELECTIONS = (START, LAST, BEST)


def evaluate_fine_tuned(method: FineTuningKnobs, fitted: Fitted, data: Data) -> list[Metric]:
    """Everything of each selection, and so of the start too, by the same code on the same images."""
    networks = {selection: fitted_network(method, fitted, data, selection) for selection in SELECTIONS}
    metrics = [Metric(name, float(value), "train") for name, value in fitted.facts["numbers"].items()]
    for selection, share in fitted.facts["disagreement"].items():
        metrics.append(Metric("label_disagreement", share, "train", selection=selection))
    for split in ("val", "test"):
        ids = data.usable_split(split).ids
        for selection, rankings in _rankings(method, networks, data, ids).items():
            predictions = with_failures(data, data.split(split).ids, rankings[:, 0, 0])
            metrics += accuracy_metrics(data, split, predictions, selection)
            metrics += _by_training(data, split, predictions, fitted.tensors["classes"], selection)
            metrics += _top_accuracy(data, split, rankings, selection)
            metrics += set_metrics(data, split, rankings, selection)
    for selection, network in networks.items():
        metrics += _relevance_metrics(method, network, data, selection)
    return metrics


def _rankings(
    method: FineTuningKnobs, networks: dict[str, Network], data: Data, ids: Ids
) -> dict[str, Rankings]:
    """The best classes of these images by each network, which all read an image once."""
    parts: dict[str, list[Rankings]] = {selection: [] for selection in networks}
    for rows in blocks(len(ids), IMAGES_AT_ONCE):
        found = logits_of(list(networks.values()), data, ids[rows], method.frame)
        for selection, logits in zip(networks, found, strict=True):
            parts[selection].append(rank(data, ids[rows], logits))
    none = np.zeros((0, len(PROTOCOLS), TOP), np.int64)
    return {selection: np.concatenate([none, *found]) for selection, found in parts.items()}


def _by_training(data: Data, split: str, predictions: Ids, trained: Ids, selection: str) -> list[Metric]:
    """`seen_class_accuracy` of images whose class was fine-tuned on, `unseen_class_accuracy` of the others;
    and of each group that has images of both. None where all classes were."""
    part = data.split(split)
    seen = np.isin(part.labels, trained)
    names = data.index.group_names
    groups = {"all": np.ones(len(seen), bool)}
    groups |= {names[group]: part.groups == group for group in np.unique(part.groups)}
    metrics = []
    for group, members in groups.items():
        if members.any() and 0 < seen[members].mean() < 1:
            for name, chosen in (("seen", members & seen), ("unseen", members & ~seen)):
                accuracy = average_accuracy(predictions[chosen], part.labels[chosen])
                metrics.append(Metric(f"{name}_class_accuracy", accuracy, split, group, selection))
    return metrics


def _top_accuracy(data: Data, split: str, rankings: Rankings, selection: str) -> list[Metric]:
    """`top5_accuracy`, where there are more classes; images that failed are wrong."""
    part = data.split(split)
    if len(data.card.classes) <= TOP or len(part.ids) == 0:
        return []
    labels = data.usable_split(split).labels
    right = int((rankings[:, 0] == labels[:, None]).sum())
    return [Metric("top5_accuracy", right / len(part.ids), split, selection=selection)]


def _relevance_metrics(method: FineTuningKnobs, network: Network, data: Data, selection: str) -> list[Metric]:
    """Of the maps of the predicted classes in the sample `explained`, where there are masks of objects: see
    `segmentation_metrics` and `object_pointing_metrics`. Where images are there for their masks alone, it is
    drawn from these, and they are squashed, as the protocol has it
    (docs/methods/guided_fine_tuning.md, "Relevance on the object")."""
    index, frame = data.index, method.frame
    if isinstance(index, ShiftedIndex):
        index, frame = index.masked(), "squash"
    index = method.explained.of(index)
    index = index.rows(data.usable(index.image_ids))
    if data.index.masks is None or len(index) == 0:
        return []
    shown, split = Data(data.card, index), method.explained.split
    raw, _ = raw_maps(network, method.relevance, data, index.image_ids, frame)

    def heatmaps(ids: Ids) -> Heat:
        return _unit(method, raw[np.searchsorted(index.image_ids, ids)], data.card.image_size)

    return [
        *segmentation_metrics(shown, split, heatmaps, frame, selection=selection),
        *object_pointing_metrics(shown, split, heatmaps, frame, selection),
    ]


def maps_before_and_after(method: FineTuningKnobs, fitted: Fitted, data: Data, ids: Ids) -> list[Explanation]:
    """Two heatmaps of each image as it is: of the network at the start, and of the last weights."""
    if len(ids) == 0:
        return []
    size = data.card.image_size
    maps, predicted = [], []
    for selection in (START, LAST):
        network = fitted_network(method, fitted, data, selection)
        raw, logits = raw_maps(network, method.relevance, data, ids, method.frame)
        maps.append(_unit(method, raw, size))
        predicted.append(torch.from_numpy(logits).softmax(1).numpy())
    explanations = []
    for row, (image_id, image) in enumerate(zip(ids, data.images(ids), strict=True)):
        heat = [unframed(of_network[row], image.shape[:2], method.frame) for of_network in maps]
        said = [_said(data, probabilities[row]) for probabilities in predicted]
        captions = (f"before: {said[0]}", f"after: {said[1]}")
        explanations.append(
            Explanation(int(image_id), " → ".join(said), np.stack(heat), np.ones(2), captions)
        )
    return explanations


def _said(data: Data, probabilities: NDArray[np.float32]) -> str:
    label = int(probabilities.argmax())
    name = data.card.classes[label] if label < len(data.card.classes) else f"class {label}"
    return f"{name} ({probabilities[label]:.0%})"


def _unit(method: FineTuningKnobs, raw: NDArray[np.float32], size: int) -> Heat:
    """Maps (n, S, S) in [0, 1]."""
    maps: Heat = unit_maps(torch.from_numpy(raw), size, method.signed).numpy()
    return maps
