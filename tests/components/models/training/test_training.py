import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from components.data.card import Card
from components.data.columns import Data
from components.data.images import DataError, ImageIndex
from components.identity import rng
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.timm import Timm
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import dump_tensors
from components.models.training.recipe import Recipe
from components.models.training.training import (
    _batches,
    augmented,
    hue_rotations,
    predict,
    readable,
    train_classifier,
)

SIDE = 16
CARD = Card(
    name="colours", title="", source="", licence="", layout="none", image_size=SIDE, classes=("red", "blue")
)
RECIPE = Recipe(epochs=5, batch_size=16, learning_rate=1e-2)


def colours(root, n=80):
    """Noisy red or blue pictures; every fifth is for validation."""
    stream = np.random.default_rng(0)
    labels = np.arange(n) % 2
    for i, label in enumerate(labels):
        image = stream.integers(0, 120, (SIDE, SIDE, 3))
        image[..., 2 * label] += 100
        Image.fromarray(image.astype(np.uint8)).save(root / f"{i}.png")
    splits = np.where(np.arange(n) % 5 == 0, "val", "train").astype(object)
    paths = np.array([f"{i}.png" for i in range(n)], object)
    return ImageIndex(root, np.arange(n), paths, labels, labels, splits, CARD.classes, CARD.classes)


@pytest.fixture
def data(tmp_path):
    return Data(CARD, colours(tmp_path))


def train(data, seed=0, recipe=RECIPE, network=None):
    network = network or SmallCnn(width=4).build(2, SIDE, seed)
    steps = []
    train_classifier(network, data, recipe, SIDE, seed, "cpu", lambda step, **m: steps.append((step, m)))
    return network, steps


def test_a_separable_problem_is_learnt(data):
    network, steps = train(data)
    images, labels, _ = readable(data, "val", SIDE)
    assert (predict(network, images, "cpu").argmax(axis=1) == labels).mean() >= 0.95
    assert [step for step, _ in steps] == list(range(5))
    assert steps[-1][1]["loss"] < 0.5 * steps[0][1]["loss"]
    assert steps[-1][1]["val_average_accuracy"] >= 0.95
    assert not network.training


def test_the_seed_decides_every_bit(data):
    first = dump_tensors(train(data, seed=1)[0])
    torch.manual_seed(99)
    np.random.seed(99)
    again, other = dump_tensors(train(data, seed=1)[0]), dump_tensors(train(data, seed=2)[0])
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head.weight"], other["head.weight"])
    start = SmallCnn(width=4).build(2, SIDE, 1)
    shuffled = dump_tensors(train(data, seed=3, network=start)[0])
    assert not np.array_equal(first["head.weight"], shuffled["head.weight"])


def test_labels_of_other_splits_are_not_read(data):
    network, _ = train(data)
    rows = data.index.splits != "train"
    data.index.labels[rows] = 1 - data.index.labels[rows]
    other, _ = train(data)
    np.testing.assert_array_equal(network.head.weight.detach(), other.head.weight.detach())


def test_a_loss_that_is_not_a_number_stops(data):
    network = SmallCnn(width=4).build(2, SIDE, 0)
    torch.nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        train(data, network=network)


def test_unreadable_images_are_left_out(data):
    whole = readable(data, "train", SIDE)
    assert len(whole[1]) == 64
    lost = data.split("train").ids[[0, 7]]
    for image_id in lost:
        path = data.index.root / f"{image_id}.png"
        path.write_bytes(path.read_bytes()[:40])
    images, labels, groups = readable(data, "train", SIDE)
    keep = ~np.isin(data.split("train").ids, lost)
    np.testing.assert_array_equal(images, whole[0][keep])
    np.testing.assert_array_equal(labels, whole[1][keep])
    np.testing.assert_array_equal(groups, whole[2][keep])
    train(data, recipe=Recipe(epochs=1))


def test_without_validation_images_there_is_no_accuracy_and_the_result_is_the_same(data):
    recipe = Recipe(epochs=2, batch_size=16)
    expected = dump_tensors(train(data, recipe=recipe)[0])
    data.index.splits[data.index.splits == "val"] = "test"
    with pytest.warns(UserWarning, match="no validation image can be read.*last epoch is the result"):
        network, steps = train(data, recipe=recipe)
    assert [set(metrics) for _, metrics in steps] == [{"loss"}] * 2
    for name, value in dump_tensors(network).items():
        np.testing.assert_array_equal(value, expected[name])


def test_nothing_to_train_on_is_said(data):
    data.index.splits[data.index.splits == "train"] = "test"
    with pytest.raises(DataError, match="no training image"):
        train(data)


@pytest.mark.parametrize("size", [1, 2, 3, 63, 64, 100])
def test_batches_hold_every_image_once_and_never_one_alone(size):
    batches = list(_batches(np.random.default_rng(0).permutation(64), size))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(64))
    assert min(len(batch) for batch in batches[-1:]) > 1
    assert max(len(batch) for batch in batches) <= size + 1


def test_mirroring_keeps_or_turns_each_image():
    pixels = torch.randint(0, 256, (200, 3, 4, 4), dtype=torch.uint8)
    out = augmented(pixels, 0.0, np.random.default_rng(0))
    turned = torch.tensor([bool((a == b.flip(-1)).all()) for a, b in zip(out, pixels, strict=True)])
    assert all((a == b).all() for a, b in zip(out[~turned], pixels[~turned], strict=True))
    assert 70 < int(turned.sum()) < 130


def test_hues_turn_about_the_grey_axis():
    angles = np.linspace(-np.pi, np.pi, 7)
    axis = np.ones(3) / np.sqrt(3)
    expected = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
    np.testing.assert_allclose(hue_rotations(torch.from_numpy(angles).float()), expected, atol=1e-6)
    third = hue_rotations(torch.tensor([2 * np.pi / 3])) @ torch.tensor([1.0, 0, 0])
    np.testing.assert_allclose(third, [[0, 1, 0]], atol=1e-6)  # red becomes green


def test_turned_images_keep_grey_and_length_and_differ_from_each_other():
    grey = torch.full((9, 3, 4, 4), 90, dtype=torch.uint8)
    np.testing.assert_allclose(augmented(grey, 0.5, np.random.default_rng(0)), grey, atol=1e-3)
    red = torch.zeros(9, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 200
    out = augmented(red, 0.1, np.random.default_rng(0))
    np.testing.assert_allclose(out.norm(dim=1), 200, rtol=1e-5)
    turns = torch.acos(((3 * out[:, 0, 0, 0] / 200 - 1) / 2).clamp(-1, 1)) / (2 * torch.pi)
    assert turns.max() <= 0.1 + 1e-4
    assert len(turns.unique()) == 9


@pytest.mark.parametrize(
    "backbone", [Timm(architecture="test_vit"), Torchvision(architecture="mobilenet_v3_small")]
)
def test_library_models_train_whole(data, backbone):
    """mobilenet_v3 has weights between its pooling and its head."""
    before = dump_tensors(backbone.build(2, SIDE, 0))
    recipe = Recipe(epochs=1, batch_size=16)
    after = dump_tensors(train(data, recipe=recipe, network=backbone.build(2, SIDE, 0))[0])
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed > {"head.weight", "head.bias"}
    assert ("pool.2.weight" in changed) == ("pool.2.weight" in before)


def turned(image, share):
    """The colours of an image (3, H, W) turned about the grey axis by this share of a full turn, by scipy."""
    rotation = Rotation.from_rotvec(2 * np.pi * share * np.full(3, 3**-0.5)).as_matrix()
    return torch.tensordot(torch.from_numpy(rotation.astype(np.float32)), image.float(), dims=1)


def by_hand(data, recipe, seed):
    """ERM in plain torch: the stream gives a permutation, then each batch's mirroring and, where colours are
    turned, its angles, in this order."""
    images, labels, _ = readable(data, "train", SIDE)
    network = SmallCnn(width=4).build(2, SIDE, seed).to(memory_format=torch.channels_last)
    stream = rng(seed, "classifier batches")
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * 4
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps)
    for _ in range(recipe.epochs):
        network.train()
        for rows in np.split(stream.permutation(64), [16, 32, 48]):
            batch = torch.from_numpy(images[rows]).permute(0, 3, 1, 2)
            batch = torch.stack(
                [x.flip(-1) if u < 0.5 else x for x, u in zip(batch, stream.random(16), strict=True)]
            )
            if recipe.hue > 0:
                batch = torch.stack(
                    [
                        turned(x, u)
                        for x, u in zip(batch, stream.uniform(-recipe.hue, recipe.hue, 16), strict=True)
                    ]
                )
            logits = network(batch.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
            optimizer.step()
            schedule.step()
    return network


@pytest.mark.parametrize("knobs", [{}, {"weight_decay": 0.5}, {"hue": 0.3}], ids=str)
def test_erm_is_plain_shuffled_training(data, knobs):
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=1e-2, **knobs)
    expected, found = (
        dump_tensors(by_hand(data, recipe, 4)),
        dump_tensors(train(data, seed=4, recipe=recipe)[0]),
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["group_balanced", "group_dro"])
def test_group_objectives_are_decided_by_the_seed_and_are_not_erm(data, objective):
    recipe = Recipe(epochs=2, batch_size=16, objective=objective)
    first, again = (dump_tensors(train(data, recipe=recipe)[0]) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    erm = dump_tensors(train(data, recipe=Recipe(epochs=2, batch_size=16))[0])
    assert not np.array_equal(first["head.weight"], erm["head.weight"])
