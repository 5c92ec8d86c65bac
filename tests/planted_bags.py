"""Bags of random segments, heads of known weights, and data sets of masks, for tests of SEG-MIL-CBM."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.pixels.bags import Bags
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.head import MilHead
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.targets import ConceptTargets
from tests.world import column, segment_columns

CARD = load_card("toybirds")
CONCEPTS = len(CARD.vocabulary())


def bags_of(features, counts, labels, *, areas=None, scores=None, segments=None, groups=None, seed=0):
    """Bags of the features (n, N, D), of which the first counts[b] are there; ids 0, 3, 6 …"""
    stream = np.random.default_rng(seed)
    shape = features.shape[:2]
    valid = np.arange(shape[1]) < np.asarray(counts)[:, None]
    places = np.broadcast_to(np.arange(shape[1]), shape)

    def where_valid(given, otherwise):
        return np.where(valid, otherwise if given is None else given, 0).astype(np.float32)

    bags = Bags(
        3 * np.arange(len(counts)),
        np.where(valid, places if segments is None else segments, -1),
        np.where(valid, 0, -1),
        where_valid(scores, -np.sort(-stream.random(shape), axis=1)),
        where_valid(areas, stream.uniform(0.02, 0.5, shape)),
        valid,
    )
    labels = np.asarray(labels, np.int64)
    similarities = torch.from_numpy(stream.random((*shape, CONCEPTS)).astype(np.float32))
    tensor = torch.from_numpy(np.where(valid[..., None], features, 0).astype(np.float32))
    return BagTensors(bags, labels, labels if groups is None else np.asarray(groups), tensor, similarities)


def head_of(kind: type[MilHead], width: int, n_concepts: int, n_classes: int, seed: int = 0) -> MilHead:
    """A head of random weights, its features not scaled."""
    areas = {"area_exponent": 0.25, "area_floor": 0.01} if kind is MilV2 else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        targets = ConceptTargets(torch.zeros(n_concepts), torch.ones(n_concepts), "softmax", 0.01)
        shared = {"hidden": 4, "temperature": 1.0, "pooling": "attention", "scaling": "none"}
        head = kind(torch.zeros(width), torch.ones(width), targets, n_classes, **shared, **areas)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
    return head.eval().requires_grad_(False)


def reading_head(attention: float = 0.0, n_concepts: int = 2) -> MilHead:
    """v1 with two classes: the first features of a segment are its concepts and its logits, and its attention
    is the softmax of about `attention` times its last feature."""
    head = head_of(MilV1, n_concepts + 1, n_concepts, 2)
    weights = {
        "concept_layer": torch.eye(n_concepts, n_concepts + 1),
        "classifier": torch.eye(2, n_concepts),
        "attention_hidden": 0.001 * torch.eye(n_concepts + 1)[-1].expand(4, -1),
        "attention_score": torch.full((1, 4), 250 * attention),
    }
    for name, weight in weights.items():
        layer = getattr(head, name)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return head


def data_of(folder: Path, masks, objects, labels, groups=None) -> Data:
    """Images 0, 3, 6 … of one split `test` with these segments (S, H, W) each, and masks of the object: None
    where the column has no row of the image."""
    ids = 3 * np.arange(len(masks))
    columns = {"segments": column(folder / "s", [pa.table({"image_id": ids, **segment_columns(masks)})])}
    if objects is not None:
        there = [i for i, one in enumerate(objects) if one is not None]
        found = segment_columns([objects[i] for i in there])
        columns["object_masks"] = column(folder / "o", [pa.table({"image_id": ids[there], **found})])
    names = tuple(f"{y} on {p}" for y in CARD.classes for p in CARD.places)
    labels = np.asarray(labels, np.int64)
    paths = np.array([f"{i}.png" for i in ids], object)
    splits = np.full(len(ids), "test", object)
    groups = 2 * labels if groups is None else np.asarray(groups)
    return Data(CARD, ImageIndex(folder, ids, paths, labels, groups, splits, CARD.classes, names), columns)
