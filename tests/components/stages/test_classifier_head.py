"""A head on stored features: against plain torch on the images, and against the whole network."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import DataError, decode, resized
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.identity import rng
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import dump_tensors, to_pixels
from components.models.training.recipe import Recipe
from components.stages.backbone_images import BackboneImages
from components.stages.classifier import load_network
from components.studies.baselines.methods.last_layer_retraining import LastLayerRetraining
from components.studies.baselines.methods.standard import Standard
from components.studies.concept_bottleneck.methods.lf_cbm import LfCbm
from components.studies.concept_bottleneck.methods.sparse_standard import SparseStandard
from components.studies.explanations.methods.eac import Eac
from components.studies.guided_fine_tuning.methods.cft import Cft
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from components.studies.starting_network import classifier_of
from tests.world import column, draw_waterbirds, run_stages

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
RECIPE = Recipe(epochs=3, batch_size=5, learning_rate=1e-2, trainable="head")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A backbone whose random weights are a file's, as a classifier's state."""
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = SmallCnn(width=4).build(2, SIDE, seed=9)
    save_file({name: torch.tensor(x) for name, x in dump_tensors(network).items()}, file)
    return SmallCnn(width=4, checkpoint=str(file))


@pytest.fixture
def index(tmp_path):
    return WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=4, side=60), CARD)


def cut_short(index, split, position):
    row = int(np.flatnonzero(index.splits == split)[position])
    index.path(row).write_bytes(index.path(row).read_bytes()[:100])
    return int(index.image_ids[row])


def trained(backbone, index, folder, recipe=RECIPE, seed=4):
    """The classifier stage of these images, and its tensors."""
    stage = classifier_of(CARD, backbone, recipe, seed)
    return stage, run_stages({"classifier": stage}, CARD, index, folder).tensors("classifier")


def images_of(index, split, without=()):
    rows = [row for row in np.flatnonzero(index.splits == split) if index.image_ids[row] not in without]
    return np.stack([resized(decode(index.path(row)), SIDE) for row in rows]), index.labels[rows]


def by_hand(backbone, index, recipe, seed, without):
    """The head in plain torch: a permutation of the images for each epoch, then which of each batch are
    mirrored, whose features the network makes anew."""
    images, labels = images_of(index, "train", without)
    network, stream = backbone.build(2, SIDE, seed).eval(), rng(seed, "classifier batches")
    optimiser = torch.optim.AdamW(network.head.parameters(), recipe.learning_rate, weight_decay=1e-4)
    cuts = list(range(recipe.batch_size, len(images), recipe.batch_size))
    assert len(images) - cuts[-1] > 1
    steps = recipe.epochs * (len(cuts) + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps)
    for _ in range(recipe.epochs):
        for rows in np.split(stream.permutation(len(images)), cuts):
            turned = stream.integers(2, size=len(rows))
            seen = [
                images[row, :, ::-1] if turn else images[row] for row, turn in zip(rows, turned, strict=True)
            ]
            with torch.no_grad():
                features = network.features(to_pixels(np.stack(seen), "cpu"))
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(
                network.head(features), torch.from_numpy(labels[rows])
            ).backward()
            optimiser.step()
            schedule.step()
    return network


def test_it_is_the_network_with_its_last_layer_trained_on_images_either_way_round(small, index, tmp_path):
    lost = cut_short(index, "train", 3)
    start = dump_tensors(small.build(2, SIDE, seed=4))
    _, found = trained(small, index, tmp_path / "columns")
    assert {name for name in start if not np.array_equal(start[name], found[name])} == {
        "head.weight",
        "head.bias",
    }
    expected = by_hand(small, index, RECIPE, 4, {lost})
    np.testing.assert_allclose(found["head.weight"], expected.head.weight.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["head.bias"], expected.head.bias.detach(), rtol=1e-4, atol=1e-6)


def test_what_failed_in_either_pass_is_left_out_and_validation_is_of_the_rest(small, index, tmp_path):
    """As if these images were not there; the accuracy that is reported is the head's own."""
    stage = classifier_of(CARD, small, RECIPE, 4)
    columns = run_stages({"features": stage.features, "mirrored": stage.mirrored}, CARD, index, tmp_path)
    train, val = (columns.split(name).ids for name in ("train", "val"))
    lacking = {"features": [train[2], val[1]], "mirrored": [train[5]]}

    def computed(images, without):
        parts = {}
        for name, missing in without.items():
            ids = np.setdiff1d(columns[name].ids, missing)
            table = columns[name].read(ids, ["features"]).append_column("image_id", pa.array(ids))
            parts[name] = column(tmp_path / f"{name}-{len(ids)}", [table])
        told = []
        data = Data(CARD, images, parts)
        return stage.compute(data, "cpu", lambda step, **metrics: told.append(metrics)), parts, told

    found, parts, told = computed(index, lacking)
    kept = index.rows(~np.isin(index.image_ids, [train[2], train[5], val[1]]))
    expected, _, _ = computed(kept, {"features": [], "mirrored": []})
    np.testing.assert_array_equal(found["head.weight"], expected["head.weight"])
    some = np.delete(val, 1)
    logits = parts["features"].array("features", some) @ found["head.weight"].T + found["head.bias"]
    labels = np.delete(columns.split("val").labels, 1)
    assert told[-1]["val_average_accuracy"] == (logits.argmax(1) == labels).mean()


def test_a_head_is_trained_on_features_of_the_backbones_precision(small):
    """On GPUs `auto` is bf16, for the features as for the logits; the network that is put together is fp32."""
    stages = [
        Standard(backbone=replace(small, precision=precision), recipe=RECIPE).stages(CARD, 0)
        for precision in ("auto", "bf16")
    ]
    assert [of["features"].backbone.precision for of in stages] == ["auto", "bf16"]
    assert [of["classifier"].features for of in stages] == [of["features"] for of in stages]
    assert {of["classifier"].backbone.precision for of in stages} == {"fp32"}


def test_a_library_model_keeps_what_lies_between_its_pooling_and_its_head(index, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "mobilenet.safetensors"
    save_file(torchvision.models.mobilenet_v3_small().state_dict(), file)
    backbone = Torchvision(architecture="mobilenet_v3_small", checkpoint=str(file))
    start = dump_tensors(backbone.build(2, SIDE, seed=4))
    _, found = trained(backbone, index, tmp_path / "columns", replace(RECIPE, epochs=1))
    assert "pool.2.weight" in start
    assert {name for name in start if not np.array_equal(start[name], found[name])} == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize("objective", ["group_balanced", "group_dro"])
def test_group_objectives_train_other_heads_on_the_same_features(small, index, tmp_path, objective):
    erm, weights = trained(small, index, tmp_path / "erm")
    other, balanced = trained(small, index, tmp_path / "other", replace(RECIPE, objective=objective))
    assert (other.features, other.mirrored) == (erm.features, erm.mirrored)
    assert not np.array_equal(weights["head.weight"], balanced["head.weight"])


def test_seeds_and_epochs_share_every_pass_over_the_images(small):
    stages = [
        Standard(backbone=small, recipe=replace(RECIPE, epochs=epochs)).stages(CARD, seed)
        for epochs, seed in ((1, 0), (2, 0), (1, 1))
    ]
    assert len({of["classifier"] for of in stages}) == 3
    passes = {stage for of in stages for stage in (of["classifier"].features, of["classifier"].mirrored)}
    assert len(passes) == 2
    assert not any(of["logits"].DECODES for of in stages)


def test_without_validation_images_there_is_a_warning_and_the_same_head(small, index, tmp_path):
    _, expected = trained(small, index, tmp_path / "with")
    index.splits[index.splits == "val"] = "test"
    with pytest.warns(UserWarning, match="no validation image can be read"):
        _, found = trained(small, index, tmp_path / "without")
    np.testing.assert_array_equal(found["head.weight"], expected["head.weight"])


def test_nothing_to_train_on_is_said(small, index, tmp_path):
    index.splits[index.splits == "train"] = "test"
    with pytest.raises(DataError, match="no training image"):
        trained(small, index, tmp_path)


@pytest.mark.parametrize("method", [Standard, LastLayerRetraining])
def test_logits_are_those_of_the_whole_network(small, index, tmp_path, method):
    lost = cut_short(index, "test", 2)
    method = method(backbone=small, recipe=RECIPE)
    stages = method.stages(CARD, 4)
    data = run_stages(stages, CARD, index, tmp_path)
    tensors = {"classifier": data.tensors("classifier")}
    network = load_network(small, stages["classifier"], tensors, SIDE, "cpu")
    images, _ = images_of(index, "test", {lost})
    with torch.no_grad():
        expected = network(to_pixels(images, "cpu")).numpy()
        features = network.features(to_pixels(images, "cpu")).numpy()
    ids = data.usable_split("test").ids
    assert lost in data["logits"].failures
    assert len(ids) == len(images)
    np.testing.assert_allclose(data["logits"].array("logits", ids), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(method.features(data, ids), features, rtol=1e-4, atol=1e-5)


def test_features_alone_need_no_classifier(small):
    """A bottleneck or bags on a frozen trunk are those of its checkpoint, whatever the seed."""
    expected = BackboneImages(backbone=small, classifier=None, image_size=SIDE)
    concept_layer = LfCbm(backbone=small, recipe=RECIPE).stages(CARD, 1)["concept_layer"]
    found = (
        SegMilCbm(backbone=small, recipe=RECIPE).stages(CARD, 1)["images"],
        SparseStandard(backbone=small, recipe=RECIPE).stages(CARD, 2)["concept_layer"].features,
        concept_layer.features,
    )
    assert all(stage == expected for stage in found)


@pytest.mark.parametrize("method", [Standard, SegMilCbm, LfCbm, SparseStandard, Eac, Cft])
def test_a_trunk_that_would_stay_random_is_refused(method):
    with pytest.raises(ValidationError, match=r"recipe.trainable is head and backbone has no checkpoint"):
        TypeAdapter(method).validate_python({"backbone": SmallCnn(), "recipe": RECIPE})
