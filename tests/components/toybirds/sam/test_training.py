"""How the small SAM is trained: losses against numpy, its file against the loader, a short run against chance."""

import numpy as np
import pytest
import torch

from components.data.generators.toybirds import Toybirds
from components.models.segmentation.sam.sam_checkpoint import load_sam
from components.toybirds.birds import load_birds
from components.toybirds.sam.architecture import save_sam, untrained_sam
from components.toybirds.sam.losses import AREA, mask_loss, true_iou
from components.toybirds.sam.scores import BoxAnswers, answers_to_boxes, calibration_error, means
from components.toybirds.sam.train import train_sam
from components.toybirds.sam.training import TrainedSam

RANDOM = np.random.default_rng(0)


def test_mask_loss_against_numpy():
    logits, true = RANDOM.normal(0, 3, (2, 3, 8, 8)), RANDOM.random((2, 3, 8, 8)) < 0.3
    expected = np.zeros((2, 3))
    for i, j in np.ndindex(2, 3):
        shown = 1 / (1 + np.exp(-logits[i, j]))
        cross = -np.log(np.where(true[i, j], shown, 1 - shown)).sum() / (true[i, j].sum() + AREA)
        dice = 1 - (2 * shown[true[i, j]].sum() + 1) / (shown.sum() + true[i, j].sum() + 1)
        expected[i, j] = cross + dice
    got = mask_loss(torch.from_numpy(logits), torch.from_numpy(true).double())
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_true_iou_counts_pixels():
    logits, true = RANDOM.normal(size=(5, 8, 8)), RANDOM.random((5, 8, 8)) < 0.5
    expected = [((a > 0) & b).sum() / ((a > 0) | b).sum() for a, b in zip(logits, true, strict=True)]
    got = true_iou(torch.from_numpy(logits), torch.from_numpy(true).float())
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    nothing = true_iou(torch.full((8, 8), -1.0), torch.zeros(8, 8))
    assert nothing == 0


def test_calibration_is_the_distance_from_what_is_reached():
    true = RANDOM.random(1000)
    assert calibration_error(true, true) == 0
    assert calibration_error(true + 0.1, true) == pytest.approx(0.1)
    assert calibration_error(RANDOM.permutation(true), true) > 0.2


def test_answers_are_pooled_in_one_order_and_parts_count_alike():
    iou = {"beak": np.array([0.2]), "body": np.array([0.6, 0.8]), "bird": np.array([0.9, 0.9])}
    answers = BoxAnswers(iou, {kind: values / 2 for kind, values in iou.items()})
    predicted, true = answers.pooled()
    np.testing.assert_allclose(predicted, true / 2)
    assert means(iou) == pytest.approx({"beak": 0.2, "body": 0.7, "bird": 0.9, "parts": 0.45})


def test_the_loader_reads_the_same_architecture_from_the_file(tmp_path):
    sam = untrained_sam(seed=3).eval()
    save_sam(sam, tmp_path / "sam.pth")
    loaded = load_sam(tmp_path / "sam.pth", "cpu", torch.float32)
    assert str(loaded) == str(sam)
    image = torch.from_numpy(RANDOM.integers(0, 256, (3, 64, 64))).float()
    asked = [{"image": image, "original_size": (64, 64), "boxes": torch.tensor([[5.0, 6.0, 40.0, 50.0]])}]
    ours, theirs = (model(asked, multimask_output=True)[0] for model in (sam, loaded))
    torch.testing.assert_close(theirs["low_res_logits"], ours["low_res_logits"], rtol=0.02, atol=0.02)
    torch.testing.assert_close(theirs["iou_predictions"], ours["iou_predictions"], rtol=0.02, atol=0.02)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    root = tmp_path_factory.mktemp("toybirds") / "data"
    Toybirds(seed=96, n_train=16, n_val=4, n_test=4).generate(root)
    return load_birds(root, "train"), load_birds(root, "val")


def test_the_same_seed_gives_the_same_weights(few):
    first, second = (TrainedSam(seed=1) for _ in range(2))
    assert train_sam(first, *few, steps=4, seed=1) == train_sam(second, *few, steps=4, seed=1)
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = TrainedSam(seed=2)
    assert any((a != b).any() for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_prompts_reach_the_decoder_and_the_encoder_learns_before_them(few):
    birds, _ = few
    images, parts = torch.from_numpy(birds.images[:2]).permute(0, 3, 1, 2), torch.from_numpy(birds.parts[:2])
    sam = TrainedSam(seed=0)
    sam.loss(images, parts, []).backward()
    assert sam.sam.image_encoder.patch_embed.proj.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in sam.sam.mask_decoder.parameters())


@pytest.mark.slow
def test_two_minutes_of_training_are_on_the_curve(tmp_path):
    """As the shipped one, but a tenth of the steps, after which a bird had 0.78 on validation."""
    root = tmp_path / "data"
    Toybirds(seed=95, correlation=0.5, typical=0.5, n_train=1500, n_val=40, n_test=60).generate(root)
    train, val, test = (load_birds(root, split) for split in ("train", "val", "test"))
    sam = TrainedSam(seed=0)
    train_sam(sam, train, val, steps=300, seed=0)
    save_sam(sam.sam, tmp_path / "sam.pth")
    iou = means(answers_to_boxes(tmp_path / "sam.pth", test).iou)
    assert iou["bird"] > 0.6
