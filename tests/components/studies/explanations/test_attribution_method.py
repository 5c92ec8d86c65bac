"""Methods that explain a classifier: what they read, what they report, what they draw."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.metrics import auc as area_under

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.data.sample import Sample
from components.evaluation.pictures import REGIONS, draw
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.box_segmenters.box import Box
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.models.weights.precision import with_precision
from components.pixels.crops import stored_masks
from components.pixels.frames import framed, framed_mask
from components.pixels.heat import unframed
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions.gradcam import Gradcam
from components.studies.explanations.stages.coalitions import Coalitions
from components.studies.explanations.stages.heatmaps import Heatmaps
from components.studies.explanations.stages.mask_values import mask_values
from tests.world import column, draw_waterbirds, run_stages

SEED, SIDE = 3, 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})


@dataclass(frozen=True, kw_only=True)
class ByHeat(AttributionMethod):
    """As a file of a heatmap method has it."""

    def ranking(self, card, seed):
        return Heatmaps(**vars(self.target(card, seed)), attribution=Gradcam())


@dataclass(frozen=True, kw_only=True)
class ByMasks(AttributionMethod):
    """As a file of a method that values masks has it."""

    def ranking(self, card, seed):
        coalitions = Coalitions(
            **vars(self.target(card, seed)),
            segments=self.segments(),
            n_coalitions=40,
            min_pixels=self.min_pixels,
            max_masks=self.max_masks,
            fill=self.fill,
        )
        return mask_values(coalitions, surrogate=None, estimator="kernel", n_samples=200)


KNOBS = {
    "backbone": SmallCnn(width=4),
    "recipe": Recipe(epochs=3, batch_size=8, learning_rate=1e-2),
    "segmenter": Slic(n_segments=6),
    "pixels_per_step": 5000,
}
BROKEN = 2  # which of the test split's images cannot be read


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=3), CARD)
    broken = index.path(int(np.flatnonzero(index.splits == "test")[BROKEN]))
    broken.write_bytes(broken.read_bytes()[:200])
    return index


@pytest.fixture(scope="module", params=[ByHeat, ByMasks])
def trial(request, index, tmp_path_factory):
    """Method, data, what was fitted, metrics by name."""
    method = request.param(**KNOBS)
    data = run_stages(method.stages(CARD, SEED), CARD, index, tmp_path_factory.mktemp("columns"))
    fitted = method.fit(data, SEED, lambda step, **metrics: None)
    metrics = method.evaluate(fitted, data)
    assert {metric.split for metric in metrics} == {"test"}
    assert len({(metric.name, metric.group) for metric in metrics}) == len(metrics)
    whole = {metric.name: metric.value for metric in metrics if metric.group == "all"}
    return method, data, fitted, whole


def plain_area(row, kind, name):
    """As the published codes have it: the official one counts masks and begins with the first, the
    reproduction has the share of covered pixels as its axis, from none on
    (docs/methods/explanations.md, "The area axis")."""
    y = np.minimum(np.array(row[kind]) / row["probability"], 1)
    if name == "eac_official":
        return area_under(np.arange(1, len(y)) / (len(y) - 1), y[1:])
    return area_under(row["areas"], y)


def test_the_images_scores_are_the_areas_under_their_curves(trial):
    _, data, fitted, found = trial
    ids = fitted.tensors["image_ids"]
    assert len(ids) == found["n_images"] == 11
    curves = data["mask_curves"].read(ids, data["mask_curves"].fields).to_pylist()
    for name in ("eac_official", "eac_repro"):
        for kind in ("insertion", "deletion"):
            expected = [plain_area(row, kind, name) for row in curves]
            own = fitted.tensors[f"{kind}_auc_{name}"]
            np.testing.assert_allclose(own, expected, rtol=1e-6)
            assert found[f"{kind}_auc_{name}"] == pytest.approx(np.mean(expected))
            error = np.std(expected, ddof=1) / np.sqrt(11)
            assert found[f"{kind}_auc_{name}_standard_error"] == pytest.approx(error)
    assert found["n_masks"] == np.mean([len(row["order"]) for row in curves])
    assert found["union_coverage"] == pytest.approx(1), "superpixels cover the image"
    assert fitted.tensors["top_mask"].tolist() == [row["order"][0] for row in curves]
    assert found["images_without_masks"] == 0


def test_controls_are_of_the_same_masks_and_images(trial):
    _, data, fitted, found = trial
    ids = fitted.tensors["image_ids"]
    fields = ["order", "areas", "insertion", "deletion", "probability"]
    own = data["mask_curves"].read(ids, fields).to_pylist()
    for control in ("random", "area"):
        rows = data[f"{control}_order"].read(ids, fields).to_pylist()
        for one, other in zip(own, rows, strict=True):
            assert sorted(one["order"]) == sorted(other["order"])
            assert one["insertion"][-1] == pytest.approx(other["insertion"][-1], abs=1e-5), "all masks"
        for name in ("eac_official", "eac_repro"):
            for kind in ("insertion", "deletion"):
                mean = np.mean([plain_area(row, kind, name) for row in rows])
                assert found[f"{kind}_auc_{name}_{control}_order"] == pytest.approx(mean)
    areas = [np.diff(row["areas"]) for row in data["area_order"].read(ids, ["areas"]).to_pylist()]
    assert all((np.diff(steps) <= 1e-6).all() for steps in areas), "superpixels, the largest first"


def test_pixel_curves_follow_the_pixels_of_the_ranking(trial):
    _, data, fitted, found = trial
    rows = data["pixel_curves"].read(fitted.tensors["image_ids"], ["insertion", "deletion"]).to_pylist()
    steps = -(-(SIDE**2) // round(5000 * SIDE**2 / 224**2))
    assert {len(row["deletion"]) for row in rows} == {steps + 1}
    for kind in ("insertion", "deletion"):
        mean = np.mean([area_under(np.arange(steps + 1) / steps, row[kind]) for row in rows])
        assert found[f"{kind}_auc_rise"] == pytest.approx(mean)


def test_heatmaps_are_scored_on_the_objects(trial):
    method, data, fitted, found = trial
    ids = fitted.tensors["image_ids"]
    heat = method._heatmaps(data, ids)
    assert heat.shape == (11, SIDE, SIDE)
    above = heat > heat.mean(axis=(1, 2), keepdims=True)
    masks = [Image.open(data.index.beside(data.index.masks, int(row))) for row in data.rows(ids)]
    truth = np.stack([framed_mask(np.asarray(mask), SIDE, "squash") for mask in masks]).astype(bool)
    assert found["pixel_accuracy"] == pytest.approx((above == truth).mean(), abs=1e-3)
    assert found["object_relevance_mass_chance"] == pytest.approx(truth.mean())
    assert {"object_pointing_accuracy", "object_pointing_accuracy_15px", "mean_iou"} <= set(found)


def test_the_heatmap_is_the_stored_one_or_painted_of_mask_values(trial):
    method, data, fitted, _ = trial
    one = fitted.tensors["image_ids"][:1]
    if isinstance(method, ByHeat):
        expected = data["ranking"].array("heatmap", one).reshape(SIDE, SIDE)
    else:
        values = data["ranking"].read(one, ["values"])["values"][0].as_py()
        masks = stored_masks(data["segments"].read(one, ["height", "width", "counts"]), 0)
        expected = sum(value * mask for value, mask in zip(values, masks, strict=True))
    np.testing.assert_allclose(method._heatmaps(data, one)[0], expected, atol=1e-6)


def test_the_classifier_that_is_explained_is_the_one_that_predicts(trial):
    method, data, fitted, found = trial
    ids = fitted.tensors["image_ids"]
    logits = method.predict(fitted, data, ids)
    table = data["mask_curves"].read(ids, ["label", "probability"])
    assert logits.argmax(axis=1).tolist() == table["label"].to_pylist()
    np.testing.assert_allclose(logits.max(axis=1), table["probability"].to_numpy())
    right = logits.argmax(axis=1) == data.index.labels[data.rows(ids)]
    assert right.any()
    assert found["average_accuracy"] == right.sum() / 12, "the image that failed counts as wrong"


def test_accuracy_is_of_the_sample_and_of_what_failed_in_it(trial):
    """Images that a sample leaves out did not fail; failed ones are left out only where it is asked for."""
    method, data, fitted, _ = trial
    ids = fitted.tensors["image_ids"]
    labels = data.index.labels[data.rows(ids)]
    right = method.predict(fitted, data, ids).argmax(axis=1) == labels
    failed = set(data["ranking"].failures) & set(data.split("test").ids.tolist())
    assert len(failed) == 1
    for kept, wrong in ((ids[:4], {}), (ids[:4], dict.fromkeys(failed, "unreadable")), (ids[:0], {})):
        columns = {}
        for name, stored in data._columns.items():
            columns[name] = _Part(stored, kept, wrong)
        for on_failed, n in (("wrong", len(kept) + len(wrong)), ("drop", len(kept))):
            part = Data(CARD, data.index, columns, on_failed=on_failed)
            accuracy = method._accuracy(fitted, part)
            assert accuracy == right[: len(kept)].sum() / n if n else np.isnan(accuracy)


class _Part:
    """Some images of a column, and some that failed."""

    def __init__(self, stored, ids, failures):
        self.ids, self.fields, self.failures = np.sort(ids), stored.fields, failures
        self.read = stored.read


def test_what_a_trial_cost_is_read_off_the_columns(trial, tmp_path):
    method, data, fitted, found = trial
    assert "seconds_per_image" not in found, "these columns were not kept by the grid"
    kept = {}
    for name, stored in data._columns.items():
        table = stored.read(stored.ids, stored.fields)
        first = np.arange(len(table)) % 4 == 0
        table = table.append_column("image_id", pa.array(stored.ids))
        for extra, value in (("model_inputs", 8), ("seconds", 2.0), ("device_batch", 4)):
            table = table.append_column(extra, pa.array(np.where(first, value, 0 * value)))
        kept[name] = column(tmp_path / name, [table])
    again = {m.name: m.value for m in method.evaluate(fitted, Data(CARD, data.index, kept))}
    # values need their coalitions, and these the masks, which are no pass of the network
    timed, passed = (1, 1) if isinstance(method, ByHeat) else (3, 2)
    n = len(data["ranking"].ids)
    assert again["seconds_per_image"] == pytest.approx(timed * 2.0 * -(-n // 4) / n)
    assert again["model_inputs_per_image"] == pytest.approx(passed * 8 * -(-n // 4) / n)


def test_explanations_are_pictures_of_the_image(trial):
    method, data, fitted, _ = trial
    test = data.split("test").ids
    explanations = method.explain(fitted, data, [int(i) for i in test[:4]])
    assert [explanation.image_id for explanation in explanations] == [int(i) for i in test[[0, 1, 3]]]
    for explanation in explanations:
        (image,) = data.images(np.array([explanation.image_id]))
        assert explanation.masks.shape[1:] == image.shape[:2]
        picture, said = draw(image, explanation)
        assert picture.ndim == 3
        assert len(said) == min(len(explanation.weights), REGIONS)
        if isinstance(method, ByMasks):
            values = data["ranking"].read(np.array([explanation.image_id]), ["values"])["values"][0].as_py()
            np.testing.assert_allclose(explanation.weights, values)
    assert method.explain(fitted, data, [int(test[BROKEN])]) == []


def test_images_without_masks_are_counted_and_left_out(trial, tmp_path):
    method, data, fitted, _ = trial
    ids = fitted.tensors["image_ids"]
    columns = dict(data._columns)
    for name in ("mask_curves", "random_order", "area_order"):
        stored = data[name]
        rows = stored.read(stored.ids, stored.fields).to_pylist()
        at = {int(i): row for i, row in zip(stored.ids, rows, strict=True)}
        none = at[int(ids[0])]
        none |= {"order": [], "areas": [0.0], "insertion": none["insertion"][:1], "deletion": [0.5]}
        table = pa.Table.from_pylist([{"image_id": i, **row} for i, row in at.items()])
        columns[name] = column(tmp_path / name, [table])
    bare = Data(CARD, data.index, columns)
    fitted = method.fit(bare, SEED, lambda step, **metrics: None)
    again = {m.name: m.value for m in method.evaluate(fitted, bare)}
    assert again["images_without_masks"] == 1
    assert fitted.tensors["top_mask"][0] == -1
    own = fitted.tensors["insertion_auc_eac_official"]
    assert np.isnan(own[0])
    assert again["insertion_auc_eac_official"] == pytest.approx(own[1:].mean())


def test_a_classifier_that_is_shared_by_all_stages_is_trained_once():
    stages = ByMasks(**KNOBS).stages(CARD, SEED)
    assert set(stages) == {
        "segments",
        "coalitions",
        "ranking",
        "mask_curves",
        "random_order",
        "area_order",
        "pixel_curves",
    }
    classifiers = {stage.classifier for stage in stages.values() if hasattr(stage, "classifier")}
    assert len(classifiers) == 1
    assert stages["ranking"].coalitions == stages["coalitions"]
    assert ByHeat(**KNOBS).stages(CARD, SEED)["random_order"] == stages["random_order"], "shared by methods"
    heat = ByHeat(**KNOBS, sample=Sample(n_images=5)).stages(CARD, SEED)
    assert {stage.sample for stage in heat.values()} == {Sample(n_images=5)}
    assert heat["pixel_curves"].segments is None, "or another segmenter would be another pass"


@pytest.mark.parametrize("kind", [ByHeat, ByMasks])
@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_all_stages_of_a_trial_have_one_precision_on_every_device(kind, precision):
    """Else some would explain another class than others: `auto` is bf16 on GPUs elsewhere, and heatmaps and
    last layers are fp32 always."""
    stages = kind(**{**KNOBS, "backbone": SmallCnn(width=4, precision=precision)}).stages(CARD, SEED)
    for device in ("cpu", "cuda"):
        run = {name: with_precision(stage, device) for name, stage in stages.items() if name != "segments"}
        found = {stage.backbone.precision for name, stage in run.items() if name != "ranking"}
        assert found == {"bf16" if (kind, precision) == (ByMasks, "bf16") else "fp32"}
        assert run["ranking"].backbone.precision == "fp32"
    if precision == "auto":  # what `auto` was on a CPU, so that its keys are the same
        before = dataclasses.replace(stages["area_order"], backbone=SmallCnn(width=4))
        assert with_precision(before, "cpu") == stages["area_order"]


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(ValueError, match="no checkpoint"):
        ByHeat(recipe=None)
    prompted = GroundedSam(detector=GroundingDino(), box_segmenter=Box())
    with pytest.raises(ValueError, match="prompted"):
        ByHeat(segmenter=prompted)


@pytest.mark.parametrize("frame", ["squash", "center_crop"])
def test_a_heatmap_of_the_square_lies_where_the_square_was(tmp_path, frame):
    """A white spot of a wide image is hot in the frame; put back, it is hot at the spot."""
    image = np.zeros((40, 100, 3), np.uint8)
    image[10:16, 58:64] = 255
    heat = framed(image, 40, frame)[..., 0].astype(np.float32)
    back = unframed(heat, (40, 100), frame)
    assert back.shape == (40, 100)
    row, across = np.unravel_index(back.argmax(), back.shape)
    assert 9 <= row <= 16
    assert 56 <= across <= 65
    beside = back[:, :29] if frame == "center_crop" else back[:, :50]
    assert (beside == heat.min()).all()


def test_only_the_images_of_the_sample_are_read(trial):
    method, data, fitted, _ = trial
    sampled = method.sample.of(data.index).image_ids
    assert fitted.tensors["image_ids"].tolist() == sampled[data.usable(sampled)].tolist()
    assert {metric.split for metric in method.evaluate(fitted, data)} == {method.sample.split}
    assert not data.usable(data.split("val").ids).any()
