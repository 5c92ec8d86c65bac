"""Fine-tuning guided by masks, of a small transformer on drawn birds with true masks."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from components.data.card import CardError, load_card
from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.data.sample import Sample
from components.evaluation.accuracies import predictions_of
from components.method import Metric
from components.metrics.accuracy import average_accuracy
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import to_pixels
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.models.training.recipe import Recipe
from components.stages.backbone_images import BackboneImages
from components.studies.guided_fine_tuning.loop import fine_tune
from components.studies.guided_fine_tuning.methods.cft import Cft
from components.studies.guided_fine_tuning.methods.fine_tuning import FineTuning
from components.studies.guided_fine_tuning.methods.grad_mask import GradMask
from components.studies.guided_fine_tuning.methods.robust_vit import RobustVit
from components.studies.guided_fine_tuning.methods.rrr import Rrr
from components.studies.guided_fine_tuning.networks import start_network, twice_differentiable
from components.studies.guided_fine_tuning.training_masks import cropped
from components.studies.guided_fine_tuning.unit_maps import unit_maps
from tests.random_vit import random_pixels, random_vit
from tests.world import draw_waterbirds, run_stages

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
GUIDED = (Cft, RobustVit, Rrr, GradMask)
COMMON = {
    "backbone": SmallVit(width=32, depth=2, patch_size=8),
    "recipe": Recipe(epochs=6, batch_size=8, learning_rate=3e-3),
    "masks": "object",
    "images_per_class": 4,
    "class_share": 1.0,
    "held_out_per_class": 2,
    "epochs": 3,
    "learning_rate": 1e-4,
}


def nothing(step, **metrics):
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = draw_waterbirds(tmp_path_factory.mktemp("birds"), per_group=6, side=SIDE)
    index = WaterbirdsCsv().read(root, CARD)
    stages = Cft(**COMMON).stages(CARD, 0)
    classifier = stages["classifier"]
    logits = BackboneImages(backbone=classifier.backbone, classifier=classifier, image_size=SIDE)
    return run_stages(stages | {"logits": logits}, CARD, index, tmp_path_factory.mktemp("columns"))


def images_of(method, data, seed=0):
    drawn = method.few_shot(data, seed)
    kept = np.zeros((2, 0), bool)
    return tuple(method.guided(data, ids, kept, seed) for ids in (drawn.trained, drawn.held_out))


def mass_inside(method, network, images):
    """Share of the maps' mass that lies in the masks, and the predicted classes."""
    pixels, masks = cropped(images, np.arange(len(images.ids)), SIDE, None)
    pixels, labels = to_pixels(pixels, "cpu").float(), torch.from_numpy(images.labels)
    raw, logits = method.relevance.maps(network, pixels, labels)
    maps = unit_maps(raw.detach(), SIDE).numpy()
    return (maps * masks).sum() / maps.sum(), (maps * (masks == 0)).mean(), logits.argmax(1).numpy()


def test_relevance_moves_into_the_mask_and_the_classes_stay(data):
    method = Cft(**COMMON | {"epochs": 100, "learning_rate": 3e-4, "resize": 224})
    network = start_network(method, data)
    train, held_out = images_of(method, data)
    assert len(train.ids) == 8
    before, beside, classes = mass_inside(method, network, train)
    fine_tune(method, network, train, held_out, SIDE, 0, nothing)
    after, beside_after, kept = mass_inside(method, network, train)
    assert after > before + 0.1
    assert beside_after < 0.8 * beside
    assert (kept == classes).sum() >= 7


def test_without_alignment_the_classes_stay(data):
    method = Cft(**COMMON | {"lambda_align": 0.0, "epochs": 20, "resize": 224})
    network = start_network(method, data)
    train, held_out = images_of(method, data)
    *_, classes = mass_inside(method, network, train)
    fine_tune(method, network, train, held_out, SIDE, 0, nothing)
    *_, kept = mass_inside(method, network, train)
    assert (kept == classes).all()


@pytest.mark.parametrize("kind", GUIDED)
def test_guidance_reaches_the_parameters(kind):
    """In RobustViT's scripts the regularisers have none (docs/methods/guided_fine_tuning.md, "GradMask")."""
    network = random_vit("class_token", dtype=torch.float32)
    pixels, labels = random_pixels(3).float(), torch.tensor([0, 1, 2])
    masks = (torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    loss, logits = kind().guidance(network, pixels, masks, labels)
    torch.testing.assert_close(logits, network(pixels), rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(loss, network.trunk.model.blocks[0].attn.qkv.weight)[0]
    assert torch.isfinite(found).all()
    assert found.abs().max() > 0


@pytest.mark.parametrize("kind", [Rrr, GradMask])
def test_the_gradient_of_a_gradient_is_that_of_finite_differences(kind):
    """In float64, along a random direction of all parameters."""
    network, method = random_vit("class_token", depth=2), kind(lambda_nc=1.0)
    pixels, labels = random_pixels(2).double(), torch.tensor([3, 1])
    masks = (torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()

    def loss():
        return method.guidance(network, pixels, masks, labels)[0]

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)

    def moved(step):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
        found = loss().detach()
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= step * direction
        return found

    step = 1e-6
    expected = (moved(step) - moved(-step)) / (2 * step)
    assert slope.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(slope.item()) > 0


def test_inputs_are_the_networks_own():
    network, pixels = random_vit("class_token", dtype=torch.float32), random_pixels(2).float()
    inputs, logits = twice_differentiable(network, pixels)
    torch.testing.assert_close(logits, network(pixels), rtol=1e-4, atol=1e-4)
    assert inputs.requires_grad
    torch.testing.assert_close(inputs.detach(), (pixels / 255 - network.mean) / network.std)


def test_a_loss_that_is_no_number_stops_with_its_step(data):
    @dataclass(frozen=True, kw_only=True)
    class Diverging(FineTuning):
        def guidance(self, network, pixels, masks, labels):
            logits = network(pixels)
            calls.append(1)
            return logits.sum() * (float("nan") if len(calls) == 4 else 0.0), logits

    calls: list[int] = []
    method = Diverging(**COMMON | {"batch_size": 2})
    with pytest.raises(FloatingPointError, match="loss is nan at step 3"):
        fine_tune(method, start_network(method, data), *images_of(method, data), SIDE, 0, nothing)


@pytest.mark.parametrize("kind", [Cft, Rrr])
def test_a_learning_rate_that_is_far_too_high_ends_with_the_step(kind, data):
    method = kind(**COMMON | {"learning_rate": 1e30, "epochs": 2})
    with pytest.raises(FloatingPointError, match=r"loss is (nan|-?inf) (at|after) step \d+$"):
        fine_tune(method, start_network(method, data), *images_of(method, data), SIDE, 0, nothing)


@pytest.fixture(scope="module")
def fitted(data):
    """Of every method, its results."""
    found = {}
    for kind in (*GUIDED, FineTuning):
        method = kind(**COMMON)
        fit = method.fit(data, 0, nothing)
        found[kind] = (method, fit, method.evaluate(fit, data))
        assert method.warnings(found[kind][2]) == [], "of these masks none is dropped"
    return found


def value(metrics, name, split="test", selection="last"):
    (found,) = (m.value for m in metrics if (m.name, m.split, m.selection, m.group, m.step)
                == (name, split, selection, "all", None))  # fmt: skip
    return found


def test_what_it_reports_on_val_a_search_may_go_by(fitted, data):
    for method, _, metrics in fitted.values():
        known = method.validated(data.card)
        reported = {
            (m.selection, m.name) for m in metrics if (m.split, m.group, m.step) == ("val", "all", None)
        }
        assert reported
        assert reported <= {(selection, name) for selection, names in known.items() for name in names}


def test_accuracies_are_those_of_the_stored_weights(fitted, data):
    for method, fit, metrics in fitted.values():
        for split in ("val", "test"):
            part = data.split(split)
            for selection in ("start", "last", "val_loss"):
                predicted = predictions_of(
                    data, part.ids, lambda ids, s=selection, m=method, f=fit: m.predict(f, data, ids, s)
                )
                expected = average_accuracy(predicted, part.labels)
                assert value(metrics, "average_accuracy", split, selection) == expected


def test_the_start_is_the_classifier_of_the_stage(fitted, data):
    method, fit, _ = fitted[Cft]
    ids = data.split("test").ids
    stored = data["logits"].array("logits", ids)
    np.testing.assert_allclose(method.predict(fit, data, ids, "start"), stored, rtol=1e-4, atol=1e-4)
    assert np.abs(method.predict(fit, data, ids) - stored).max() > 1e-3


def test_the_same_trial_twice_is_the_same_trial(fitted, data):
    for kind in (Cft, Rrr):
        method, fit, metrics = fitted[kind]
        again = method.fit(data, 0, nothing)
        assert again.facts == fit.facts
        for name, values in fit.tensors.items():
            np.testing.assert_array_equal(again.tensors[name], values)
        assert method.evaluate(again, data) == metrics
    other = fitted[Cft][0].fit(data, 1, nothing)
    assert other.tensors["trained_ids"].tolist() != fitted[Cft][1].tensors["trained_ids"].tolist()


def test_the_best_weights_are_those_of_the_lowest_held_out_loss(data):
    method, losses = Cft(**COMMON | {"epochs": 6, "learning_rate": 3e-3}), []
    fit = method.fit(data, 0, lambda step, **metrics: losses.append(metrics["held_out_loss"]))
    best = fit.facts["numbers"]["best_epoch"]
    assert best == int(np.argmin(losses))
    shorter = dataclasses.replace(method, epochs=best + 1).fit(data, 0, nothing)
    for name, values in fit.tensors.items():
        if name.startswith("val_loss/"):
            np.testing.assert_array_equal(shorter.tensors[name.replace("val_loss/", "last/")], values)


def test_relevance_is_judged_before_and_after(fitted, data):
    for _, _, metrics in fitted.values():
        for name in ("object_relevance_mass", "pixel_accuracy", "mean_iou", "mean_average_precision"):
            assert 0 <= value(metrics, name, selection="start") <= 1
        assert value(metrics, "object_relevance_mass", selection="start") == value(
            fitted[Cft][2], "object_relevance_mass", selection="start"
        )
    few = dataclasses.replace(fitted[Cft][0], explained=Sample(n_images=5))
    names = {m.name for m in few.evaluate(fitted[Cft][1], data)}
    assert "object_relevance_mass" in names


def test_disagreement_with_labels_is_counted_on_training_images(fitted, data):
    method, fit, metrics = fitted[FineTuning]
    ids = fit.tensors["trained_ids"]
    labels = data.index.labels[data.rows(ids)]
    images, _ = images_of(method, data)
    pixels, _ = cropped(images, np.arange(len(ids)), SIDE, None)
    with torch.no_grad():
        predicted = start_network(method, data)(to_pixels(pixels, "cpu").float()).argmax(1).numpy()
    found = value(metrics, "label_disagreement", "train", "start")
    assert found == pytest.approx((predicted != labels).mean())


def test_classes_that_were_not_trained_have_accuracies_of_their_own(data):
    method = Cft(**COMMON | {"class_share": 0.5})
    fit = method.fit(data, 0, nothing)
    (trained,) = fit.tensors["classes"]
    metrics, part = method.evaluate(fit, data), data.split("test")
    right = method.predict(fit, data, part.ids).argmax(1) == part.labels
    assert value(metrics, "seen_class_accuracy") == right[part.labels == trained].mean()
    assert value(metrics, "unseen_class_accuracy") == right[part.labels != trained].mean()
    assert (data.index.labels[data.rows(fit.tensors["held_out_ids"])] != trained).all()


def test_it_explains_by_maps_before_and_after(fitted, data):
    method, fit, _ = fitted[Cft]
    ids = data.split("test").ids[:2]
    for explanation in method.explain(fit, data, ids.tolist()):
        assert explanation.masks.shape == (2, SIDE, SIDE)
        assert explanation.masks.min() >= 0
        assert explanation.masks.max() <= 1
        assert not (explanation.masks[0] == explanation.masks[1]).all()
    assert method.explain(fit, data, []) == []


def test_no_image_with_a_mask_is_an_error(data):
    method = Cft(**COMMON)
    train, held_out = images_of(method, data)
    none = np.zeros(0, np.int64)
    kept = np.zeros((2, 0), bool)
    empty = dataclasses.replace(method.guided(data, none, kept, 0), masks_empty=3)
    for pair, purpose in (((empty, held_out), "train on"), ((train, empty), "select weights by")):
        with pytest.raises(DataError, match=f"no image to {purpose}: 3 masks are empty"):
            fine_tune(method, start_network(method, data), *pair, SIDE, 0, nothing)


def test_controls_are_trained_on_the_images_of_the_concepts(tiny_clip, tmp_path):
    """From stages to weights; a CLIP of random weights says which true segment is which concept."""
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "birds", per_group=5, side=SIDE), CARD)
    checks = {"min_occurrence": 0.0, "min_coverage": 0.0, "images_per_class": 6, "epochs": 1}
    clip = {"clip": Clip(checkpoint=str(tiny_clip)), "segmenter": GroundTruth(), "k_top": 22}
    method = Cft(**COMMON | checks | clip | {"masks": "concepts"})
    data = run_stages(method.stages(CARD, 0), CARD, index, tmp_path)
    fits = {
        source: dataclasses.replace(method, masks=source).fit(data, 0, nothing)
        for source in ("concepts", "random", "inverted", "whole_image")
    }
    numbers = fits["concepts"].facts["numbers"]
    drawn = method.few_shot(data, 0)
    dropped = numbers["masks_empty"] + numbers["masks_too_large"]
    assert numbers["images_trained"] + numbers["images_held_out"] + dropped == 16
    assert dropped > 0
    assert len(drawn.trained) == 12
    said = method.evaluate(fits["concepts"], data)
    assert dropped == value(said, "masks_empty", "train") + value(said, "masks_too_large", "train")
    assert [f"{dropped / 16:.0%}" in text for text in method.warnings(said)] == [True] * (dropped > 1.6)
    for fit in fits.values():
        np.testing.assert_array_equal(fit.tensors["trained_ids"], fits["concepts"].tensors["trained_ids"])
    shares = {source: fit.facts["numbers"]["mask_share"] for source, fit in fits.items()}
    assert shares["random"] == shares["concepts"] == pytest.approx(1 - shares["inverted"])
    assert shares["whole_image"] == 1
    table = method.files(fits["concepts"], data)["concepts.csv"].splitlines()
    assert table[0] == "class,concept,occurrence,coverage,kept"
    assert len(table) == 9
    assert method.files(fits["concepts"], data) == method.files(fits["random"], data)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="its weights are random"):
        Cft(recipe=None)
    with pytest.raises(ValueError, match="training images alone"):
        Cft(pool=Sample(split="val"))
    with pytest.raises(ValueError, match="k_top = 16 is more than"):
        Cft(segmenter=GroundedSam(), k_top=16)
    with pytest.raises(ValueError, match="prompted by names"):
        Cft(masks="class_name")
    bare = CARD.model_copy(update={"masks": None})
    with pytest.raises(CardError, match="names no masks"):
        Cft(masks="object").stages(bare, 0)
    with pytest.raises(CardError, match="set it to 0"):
        Cft().stages(bare, 0)


def test_masks_of_a_pool_are_made_of_it_alone():
    pool = Sample(split="train", n_images=7)
    stages = Cft(pool=pool, clip=Clip(checkpoint="some")).stages(CARD, 0)
    assert {name for name, stage in stages.items() if getattr(stage, "sample", None) == pool} == {
        "segments", "clip_images", "clip_segments",
    }  # fmt: skip
    assert "class_segments" in Cft(segmenter=GroundedSam(), masks="class_name").stages(CARD, 0)
    prompted = Cft(segmenter=GroundedSam()).stages(CARD.model_copy(update={"masks": None}), 0)
    assert prompted["class_segments"].boxes.texts.texts == CARD.classes
    assert set(Cft(masks="object").stages(CARD, 0)) == {"images", "classifier"}


@pytest.mark.parametrize(("empty", "too_large", "says"), [(2, 1, ""), (2, 2, "14% of its images")])
def test_images_that_are_dropped_for_their_masks_are_warned_of(empty, too_large, says):
    told = {"masks_empty": empty, "masks_too_large": too_large, "images_trained": 20, "images_held_out": 4}
    told["images_held_out"] += 4 * (not says)
    (warning,) = Cft().warnings([Metric(name, value, "train") for name, value in told.items()]) or [""]
    assert says in warning
    assert bool(warning) == bool(says)
