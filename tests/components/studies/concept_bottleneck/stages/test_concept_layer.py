"""The concept layer on columns in which it is known where each concept is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from components.data.images import DataError
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.stage import fixed_size_lists, ragged_lists
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from components.stages.clip_texts import ClipTexts
from components.studies.concept_bottleneck.layer.concept_pooling import Bottleneck, Pooling
from components.studies.concept_bottleneck.stages.concept_layer import ConceptLayer
from tests.planted_concepts import NAMES, PLANTED, QUADRANTS, D, E, G, N, plant, silent
from tests.world import column

LAYER = ConceptLayer(
    features=BackboneMaps(backbone=SmallCnn(), classifier=None, image_size=64),
    targets=ClipPlaces(clip=Clip(), grid_size=G),
    texts=ClipTexts(clip=Clip(), texts=NAMES),
    cutoff_images=None,
    clip_cutoff=-1,
    protocol="held_out",
    loss_axis="image",
    learning_rate=1e-2,
    batch_size=50_000,
    steps=400,
    seed=0,
)
WHOLE = replace(
    LAYER,
    features=BackboneImages(backbone=SmallCnn(), classifier=None, image_size=64),
    targets=ClipImages(clip=Clip()),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


def compute(planted, layer=LAYER, features="maps", targets="places", report=silent):
    return layer.compute(planted.data(features, targets), "cpu", report)


@pytest.fixture(scope="module")
def trained(planted):
    return compute(planted)


def pointing(planted, weight):
    """Share of the planted concepts that are present whose map, less its mean over the training images, is
    largest in the concept's quadrant."""
    bottleneck = Bottleneck(
        weight=weight[:PLANTED], mean=np.zeros(1), std=np.ones(1), pooling=Pooling(), grid_size=G
    )
    maps = bottleneck.maps(planted.columns["maps"], planted.index.image_ids)
    splits = planted.index.splits
    cell = (maps - maps[splits == "train"].mean(axis=0)).argmax(axis=2)
    hits = QUADRANTS.reshape(-1)[cell] == np.arange(PLANTED)
    return hits[splits == "test"][planted.present[splits == "test"]].mean()


def test_a_concepts_map_is_largest_where_the_concept_is(planted, trained):
    """By chance it would be so once in four. In three quarters of the cells there is nothing to agree on, so a
    planted concept's similarity cannot be far above 0.25, and the others' is about 0."""
    assert pointing(planted, trained["weight"]) > 0.85
    assert (trained["similarity"][:PLANTED] > 0.1).all()
    assert (abs(trained["similarity"][PLANTED:]) < 0.1).all()


def test_shuffled_places_of_clip_teach_less(planted, trained):
    """It counts where CLIP looked."""
    ids = planted.index.image_ids
    vectors = np.array(
        planted.columns["places"].read(ids, ["embedding"])["embedding"].to_pylist(), np.float16
    )
    stream = np.random.default_rng(1)
    for image in vectors:
        stream.shuffle(image)
    shuffled = ragged_lists(fixed_size_lists(vectors.reshape(-1, E)), [G * G] * N)
    places = column(planted.index.root / "shuffled", [pa.table({"image_id": ids, "embedding": shuffled})])
    lost = compute(replace(planted, columns={**planted.columns, "places": places}))
    assert lost["similarity"][:PLANTED].mean() < 0.6 * trained["similarity"][:PLANTED].mean()


def test_training_is_the_same_again_and_the_seed_decides(planted, trained):
    again = compute(planted)
    assert all(np.array_equal(again[name], trained[name], equal_nan=True) for name in trained)
    assert not np.array_equal(compute(planted, replace(LAYER, seed=1))["weight"], trained["weight"])


def test_no_label_and_no_image_of_another_split_is_read(planted, trained):
    index = planted.index
    turned = replace(planted, index=replace(index, labels=1 - index.labels, groups=1 - index.groups))
    blind = compute(turned.rows(index.splits == "train"))
    np.testing.assert_array_equal(blind["weight"], trained["weight"])


def test_the_original_protocol_looks_at_the_test_split(planted):
    original = replace(LAYER, protocol="lf_original", steps=60)
    splits = planted.index.splits
    fewer = planted.rows((splits != "test") | (np.arange(N) % 12 == 5))
    found = [compute(part, original)["similarity"] for part in (planted, fewer)]
    assert not np.array_equal(*found)
    with pytest.raises(DataError, match="no image"):
        compute(planted.rows(splits == "train"), original)


def test_it_ends_at_the_first_look_without_gain_with_the_weights_before_it(planted):
    looks = []
    found = compute(
        planted,
        replace(LAYER, steps=5000, learning_rate=0.1),
        report=lambda step, **metrics: looks.append((step, metrics["val_loss"])),
    )
    assert [step for step, _ in looks] == [50 * (i + 1) for i in range(len(looks))]
    losses = [loss for _, loss in looks]
    assert looks[-1][0] < 5000
    *before, last = losses
    assert last >= before[-1]
    assert all(later < earlier for earlier, later in pairwise(before))
    assert found["similarity"].mean() == pytest.approx(-losses[-2], abs=1e-6)


def test_the_last_step_is_looked_at_too(planted):
    steps = []
    compute(planted, replace(LAYER, steps=60), report=lambda step, **metrics: steps.append(step))
    assert steps == [50, 60]


def test_batches_smaller_than_the_data_train_it_too(planted):
    assert pointing(planted, compute(planted, replace(LAYER, batch_size=64, steps=200))["weight"]) > 0.85


def test_images_and_places_together_are_another_loss(planted, trained):
    """There, which cell it is tells something of a planted concept, and so the similarity is larger."""
    together = compute(planted, replace(LAYER, loss_axis="image_space"))
    assert (together["similarity"][:PLANTED] > 2 * trained["similarity"][:PLANTED]).all()


def test_one_vector_an_image(planted):
    """LF-CBM: the same training, with one place."""
    found = compute(planted, WHOLE, "pooled", "images")
    assert found["weight"].shape == (len(NAMES), D)
    assert (found["similarity"][:PLANTED] > 0.4).all()


def test_a_grid_of_1(planted):
    """One circle: CLIP's cosines of the first cell stand for the image, and the map is resized to one cell."""
    ids = planted.index.image_ids
    vectors = np.array(
        planted.columns["places"].read(ids, ["embedding"])["embedding"].to_pylist(), np.float16
    )
    one = ragged_lists(fixed_size_lists(np.ascontiguousarray(vectors[:, 0])), [1] * N)
    places = column(planted.index.root / "one", [pa.table({"image_id": ids, "embedding": one})])
    layer = replace(LAYER, targets=replace(LAYER.targets, grid_size=1))
    found = compute(replace(planted, columns={**planted.columns, "places": places}), layer)
    assert found["similarity"][0] > 0.4
    assert (abs(found["similarity"][1:]) < 0.5).all()


def test_the_clip_cutoff_is_the_mean_of_the_five_largest_cosines(planted):
    train = planted.index.splits == "train"
    cosines = planted.columns["images"].array("embedding", planted.index.image_ids[train]) @ planted.texts.T
    expected = np.sort(cosines, axis=0)[-5:].mean(axis=0)
    between = float(np.sort(expected)[-3:-1].mean())
    cut = replace(LAYER, cutoff_images=ClipImages(clip=Clip()), clip_cutoff=between, steps=50)
    found = compute(planted, cut)
    np.testing.assert_allclose(found["top_cosine"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["trained"], expected > between)
    np.testing.assert_array_equal(np.isnan(found["similarity"]), expected <= between)
    assert (found["weight"][expected <= between] == 0).all()
    with pytest.raises(DataError, match=r"clip_cutoff 0\.9 leaves no concept"):
        compute(planted, replace(cut, clip_cutoff=0.9))


@pytest.mark.parametrize("n_train", [1, 2, 3])
def test_fewer_images_than_concepts(planted, n_train):
    few = planted.rows(np.flatnonzero(planted.index.splits == "train")[:n_train])
    found = compute(few, replace(LAYER, steps=100))
    assert np.isfinite(found["weight"]).all()
    assert (abs(found["similarity"]) <= 1 + 1e-5).all()


def test_no_image_at_all(planted):
    with pytest.raises(DataError, match="no training image"):
        compute(planted.rows(planted.index.splits == "val"))


def test_a_text_of_which_clip_sees_nothing_has_similarity_0(planted):
    texts = planted.texts.copy()
    texts[1] = 0
    found = compute(replace(planted, texts=texts))
    assert found["similarity"][1] == 0
    assert found["similarity"][0] > 0.15
    assert np.isfinite(found["weight"]).all()
