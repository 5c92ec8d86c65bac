"""The regulariser of SEG-MIL-CBM: attention leaves the background on a planted problem."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from components.data.card import CardError, load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.stage import fixed_size_lists, ragged_lists
from components.stages.clip_texts import ClipTexts
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from tests.world import column, segment_columns

CARD = load_card("toybirds")
CONCEPTS = CARD.vocabulary()
WIDTH = 6
METHOD = SegMilCbm(
    k_top=len(CONCEPTS), tau_min_pixels=0, rho_max=1, epochs=20, learning_rate=3e-2, batch_size=64
)


def silent(step, **metrics):
    pass


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Each image is a bird (segment 0, of concept "crest") on a ground ("water" or "grass"). The bird tells the
    label, with noise; the ground tells it clearly, but in a twentieth of the training images and in half of the
    test images it tells the other one."""
    folder, stream = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    n = 300
    ids, labels = np.arange(n), stream.integers(0, 2, n)
    splits = np.array(["train"] * 3 + ["test"], object)[np.arange(n) % 4]
    misleads = stream.random(n) < np.where(splits == "train", 0.05, 0.5)
    places = np.where(misleads, 1 - labels, labels)
    halves = np.zeros((2, 8, 8), bool)
    halves[0, :, :3] = True
    halves[1, :, 3:] = True
    features = stream.normal(0, 0.3, (n, 2, WIDTH))
    features[:, 0, 0] += 2 * labels - 1 + stream.normal(0, 0.7, n)
    features[:, 1, 1] += 6 * places - 3
    features[:, 0, 2] += 3
    shown = np.eye(len(CONCEPTS), dtype=np.float32)
    grounds = np.array([CONCEPTS.index("grass"), CONCEPTS.index("water")])
    clip = np.stack([np.tile(shown[CONCEPTS.index("crest")], (n, 1)), shown[grounds[places]]], axis=1)

    def lists(array):
        return ragged_lists(fixed_size_lists(array.reshape(2 * n, -1).astype(np.float32)), [2] * n)

    fields = {
        "segments": segment_columns([halves] * n),
        "object_masks": segment_columns([halves[:1]] * n),
        "clip_segments": {"embedding": lists(clip)},
        "features": {"features": lists(features)},
        "clip_images": {"embedding": fixed_size_lists(np.ones((n, len(CONCEPTS)), np.float32))},
        "images": {"features": fixed_size_lists(np.zeros((n, WIDTH), np.float32))},
    }
    columns = {
        name: column(folder / name, [pa.table({"image_id": ids, **its})]) for name, its in fields.items()
    }
    paths = np.array([f"{i}.png" for i in ids], object)
    names = tuple(f"{y} on {p}" for y in CARD.classes for p in CARD.places)
    index = ImageIndex(folder, ids, paths, labels, 2 * labels + places, splits, CARD.classes, names)
    return Data(CARD, index, columns, {"clip_texts": {"embedding": shown}})


@pytest.fixture(scope="module")
def looked(planted):
    """Of head and knobs: the attention on the ground, mean over classes and over the test images; and the
    accuracy on those images whose ground tells the other label."""

    def look(kind, **knobs):
        method = replace(METHOD, head=kind, **knobs)
        fitted = method.fit(planted, 0, silent)
        test = planted.split("test")
        bags = method.bags(fitted, planted, test.ids)
        logits, output = run_head(method.fitted_head(fitted), bags)
        attention = output.attention.mean(dim=-1).numpy()[bags.bags.segments == 1].mean()
        minority = test.groups // 2 != test.groups % 2
        return attention, (logits.argmax(axis=1) == test.labels)[minority].mean()

    return look


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_attention_leaves_the_background_and_the_minority_is_right(looked, kind):
    """Without it, a head that looks at the ground gets the images wrong whose ground misleads."""
    attention, right = looked(kind)
    assert attention > 0.3
    assert right < 0.7
    for background in ("concepts", "masks"):
        some, _ = looked(kind, background=background, lambda_background=0.3)
        without, then_right = looked(kind, background=background, lambda_background=2.0)
        assert without < 0.05
        assert without < some < attention
        assert then_right > right + 0.2


def test_the_background_list_is_part_of_the_identity():
    assert "background_texts" not in METHOD.stages(CARD, 0)
    regularised = replace(METHOD, lambda_background=0.1)
    stage = regularised.stages(CARD, 0)["background_texts"]
    assert isinstance(stage, ClipTexts)
    assert stage.texts == CARD.vocabulary("background")
    others = {
        name: stage for name, stage in regularised.stages(CARD, 0).items() if name != "background_texts"
    }
    assert others == METHOD.stages(CARD, 0)


def test_a_list_that_is_no_part_of_the_vocabulary_is_refused():
    """All the vocabulary may be background; a longer list may not."""
    method = replace(METHOD, lambda_background=0.1, background_vocabulary="concepts")
    assert method.stages(CARD, 0)["background_texts"].texts == CONCEPTS
    method = replace(method, vocabulary="background")
    with pytest.raises(CardError, match="concepts of toybirds: 'blue body' is not in background"):
        method.stages(CARD, 0)


def test_masks_are_asked_of_a_card_that_has_some():
    method = replace(METHOD, lambda_background=0.1, background="masks")
    assert "object_masks" in method.stages(CARD, 0)
    with pytest.raises(CardError, match="the card of toybirds names no masks"):
        method.stages(CARD.model_copy(update={"masks": None}), 0)


def test_poolings_without_attention_cannot_be_regularised():
    for pooling in ("mean", "max"):
        with pytest.raises(ValueError, match="lambda_background needs pooling: attention"):
            replace(METHOD, lambda_background=0.1, pooling=pooling)
