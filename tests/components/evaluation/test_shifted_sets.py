"""Accuracies on sets, of methods that are trained on ImageNet's images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.data.columns import Data
from components.data.readers.imagenet_shifts import ImagenetShifts
from components.evaluation.shifted_sets import ranked, set_metrics
from components.metrics.heatmaps import SegmentationScores
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.training.recipe import Recipe
from components.studies.baselines.methods.standard import Standard
from components.studies.guided_fine_tuning.methods.cft import Cft
from components.studies.guided_fine_tuning.networks import raw_maps, start_network
from components.studies.guided_fine_tuning.unit_maps import unit_maps
from tests.shifted_world import ALSO, CARD, CLASSES, IN_SETS, draw_shifts, mask_of
from tests.world import run_stages

PROTOCOLS = ("set_accuracy", "set_accuracy_occurring", "set_top5_accuracy", "set_top5_accuracy_occurring")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return ImagenetShifts().read(draw_shifts(tmp_path_factory.mktemp("shifts")), CARD)


def by_hand(index, name, ids, logits, failed=()):
    """The metrics of a set, image by image."""
    occurring = set(range(len(CLASSES))) if name == "imagenet" else set(IN_SETS[name].values())
    if name == "objectnet":
        occurring |= {other for label in occurring for other in ALSO.get(label, ())}
    members = index.rows((index.splits == "test") & (index.groups == index.group_names.index(name)))
    hits = {metric: 0 for metric in PROTOCOLS if len(occurring) > 5 or metric != PROTOCOLS[3]}
    for image_id, label in zip(members.image_ids, members.labels, strict=True):
        if image_id in failed:
            continue
        row = logits[list(ids).index(image_id)]
        right = {label} | (ALSO.get(label, set()) if name == "objectnet" else set())
        for metric in hits:
            allowed = occurring if metric.endswith("occurring") else range(len(CLASSES))
            order = sorted(allowed, key=lambda c, row=row: -row[c])
            hits[metric] += bool(right & set(order[: 5 if "top5" in metric else 1]))
    return {metric: count / len(members) for metric, count in hits.items()}


def of_sets(metrics, selection="last"):
    found = {}
    for m in metrics:
        if m.name in PROTOCOLS and m.selection == selection:
            assert m.split == "test"
            found.setdefault(m.group, {})[m.name] = m.value
    return found


def test_each_set_is_counted_image_by_image_and_what_failed_is_wrong(index):
    tested = index.image_ids[index.splits == "test"]
    failed = tested[::7]
    column = SimpleNamespace(ids=np.setdiff1d(index.image_ids, failed), failures=dict.fromkeys(failed, "x"))
    data = Data(CARD, index, {"logits": column})
    logits = np.random.default_rng(0).normal(size=(len(tested), len(CLASSES)))
    rankings = ranked(data, data.usable_split("test").ids, lambda ids: logits[np.searchsorted(tested, ids)])
    found = of_sets(set_metrics(data, "test", rankings))
    assert set(found) == {"imagenet", *IN_SETS}
    for name, values in found.items():
        assert values == pytest.approx(by_hand(index, name, tested, logits, failed))
    assert any(0 < v["set_accuracy"] < v["set_accuracy_occurring"] for v in found.values())
    assert set_metrics(data, "val", rankings[:0]) == []


def test_the_standard_method_reports_them_and_the_first_class_alone_beside(index, tmp_path):
    method = Standard(backbone=SmallCnn(width=4), recipe=Recipe(epochs=3, batch_size=16, learning_rate=1e-2))
    data = run_stages(method.stages(CARD, 0), CARD, index, tmp_path)
    metrics = method.evaluate(method.fit(data, 0, lambda step, **m: None), data)
    part = data.split("test")
    logits = data["logits"].array("logits", part.ids)
    for name, values in of_sets(metrics).items():
        assert values == pytest.approx(by_hand(index, name, part.ids, logits))
    (first,) = (m.value for m in metrics if (m.name, m.group) == ("group_accuracy", "objectnet"))
    members = part.groups == index.group_names.index("objectnet")
    assert first == pytest.approx((logits.argmax(1) == part.labels)[members].mean())


def test_fine_tuned_methods_report_them_before_and_after_and_judge_maps_on_the_masks(index, tmp_path):
    method = Cft(
        backbone=SmallVit(width=32, depth=2, patch_size=4),
        recipe=Recipe(epochs=2, batch_size=16, learning_rate=3e-3),
        frame="center_crop",
        masks="whole_image",
        min_coverage=0,
        epochs=1,
    )
    stages = {name: s for name, s in method.stages(CARD, 0).items() if name in {"images", "classifier"}}
    data = run_stages(stages, CARD, index, tmp_path)
    network = start_network(method, data)
    state = {name: values.detach().numpy() for name, values in network.state_dict().items()}
    fitted = SimpleNamespace(
        tensors={"classes": np.array([0, 3, 5])}
        | {f"{selection}/{name}": x for selection in ("last", "val_loss") for name, x in state.items()},
        facts={"numbers": {}, "disagreement": {}},
    )
    metrics = method.evaluate(fitted, data)
    part = data.split("test")
    logits = method.predict(fitted, data, part.ids)
    for selection in ("start", "last", "val_loss"):
        found = of_sets(metrics, selection)
        assert set(found) == {"imagenet", *IN_SETS}
        for name, values in found.items():
            assert values == pytest.approx(by_hand(index, name, part.ids, logits))
    seen = {m.group for m in metrics if m.name == "seen_class_accuracy" and m.split == "test"}
    assert seen == {"all", "imagenet", "imagenet_v2", "imagenet_a", "imagenet_sketch", "objectnet"}

    masked = index.masked()
    raw, _ = raw_maps(network, method.relevance, data, masked.image_ids, "squash")
    scores = SegmentationScores()
    for number, heatmap in enumerate(unit_maps(torch.from_numpy(raw), 16, method.signed).numpy()):
        scores.add(heatmap, mask_of(number, 16)[:, ::2])
    judged = {m.name: m.value for m in metrics if m.name in scores.metrics() and m.selection == "last"}
    assert judged == pytest.approx(scores.metrics())
