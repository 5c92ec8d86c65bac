"""Against known numbers, float64, and gradients worked out by hand.

The numbers are property 4 of docs/methods/guided_fine_tuning.md, "Checked properties".
"""

import numpy as np
import pytest
import torch
from torch import nn

from components.data.mask_files import IGNORE
from components.studies.guided_fine_tuning.losses import (
    classification,
    concept_alignment,
    grad_mask,
    on_patches,
    right_reasons,
    squared_alignment,
)

SIDE = 12


def constant(value):
    return torch.full((2, SIDE, SIDE), value)


def random_case(seed=0, n=3):
    """Maps in [0.05, 0.95] and masks of rectangles, in float64."""
    generator = torch.Generator().manual_seed(seed)
    maps = 0.05 + 0.9 * torch.rand(n, SIDE, SIDE, generator=generator, dtype=torch.float64)
    masks = torch.zeros(n, SIDE, SIDE)
    for i in range(n):
        masks[i, 2 : 4 + 2 * i, 1 : 5 + i] = 1
    return maps, masks


@pytest.mark.parametrize(
    ("value", "mask", "loss"), [(0.5, 0, 0.8318), (0.5, 1, 0.3466), (0.9, 0, 2.7631), (0.9, 1, 0.0527)]
)
@pytest.mark.parametrize("region_norm", [False, True])
def test_known_values_of_the_loss(value, mask, loss, region_norm):
    found = concept_alignment(constant(value), constant(float(mask)), 0.5, 1.2, region_norm)
    assert found.item() == pytest.approx(loss, abs=5e-5)


@pytest.mark.parametrize("region_norm", [False, True])
def test_a_map_that_is_its_mask_costs_nothing(region_norm):
    _, masks = random_case()
    assert 0 <= concept_alignment(masks, masks, 0.5, 1.2, region_norm).item() < 1e-5


def test_it_is_binary_cross_entropy_in_two_parts():
    maps, masks = random_case()
    outside = nn.functional.binary_cross_entropy(maps * (1 - masks), torch.zeros_like(maps))
    inside = nn.functional.binary_cross_entropy(maps * masks, masks.double())
    found = concept_alignment(maps, masks, 0.5, 1.2)
    torch.testing.assert_close(found, 0.5 * inside + 1.2 * outside, rtol=1e-12, atol=0)


def test_the_mean_over_a_region_times_its_share_is_the_mean_over_all_pixels():
    maps, masks = random_case()
    for one, mask in zip(maps, masks, strict=True):
        share = mask.double().mean().item()
        for weights, part in (((0.5, 0.0), share), ((0.0, 1.2), 1 - share)):
            by_region = concept_alignment(one[None], mask[None], *weights, region_norm=True).item()
            by_pixel = concept_alignment(one[None], mask[None], *weights).item()
            assert by_region * part == pytest.approx(by_pixel, rel=1e-12)


@pytest.mark.parametrize("region_norm", [False, True])
def test_gradients_are_right_in_float32_where_the_map_is_highest_in_the_background(region_norm):
    """Of raw maps scaled to their range, which attain 0 in the mask and 1 beside it."""
    raw = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    masks = torch.zeros(2, SIDE, SIDE)
    masks[:, 4:9, 3:8] = 1
    raw[:, 0, 0], raw[:, 5, 5] = 2, -1

    def gradient(dtype):
        values = raw.to(dtype).requires_grad_()
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        loss = concept_alignment((values - low) / (high - low), masks, 0.5, 1.2, region_norm)
        (found,) = torch.autograd.grad(loss, values)
        return found.double()

    exact = gradient(torch.float64)
    assert (gradient(torch.float32) - exact).norm() < 1e-4 * exact.norm()


def test_an_empty_mask_is_no_division_by_zero():
    maps, masks = random_case()
    for region in (torch.zeros_like(masks), torch.ones_like(masks)):
        assert torch.isfinite(concept_alignment(maps, region, 0.5, 1.2, region_norm=True))


def test_robust_vits_loss_is_its_formula():
    maps, masks = random_case()
    x, s = maps.numpy(), masks.numpy()
    expected = 2 * ((x * (1 - s)) ** 2).mean() + 0.3 * ((x * s - s) ** 2).mean()
    assert squared_alignment(maps, masks, 0.3, 2.0).item() == pytest.approx(expected, rel=1e-12)
    assert squared_alignment(masks, masks, 0.3, 2.0).item() == 0


def test_losses_are_computed_in_float32_under_autocast():
    maps, masks = random_case()
    with torch.autocast("cpu", torch.bfloat16):
        found = concept_alignment(maps.float(), masks, 0.5, 1.2)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(concept_alignment(maps, masks, 0.5, 1.2).item(), rel=1e-6)


def test_a_patch_is_in_the_mask_if_half_of_it_is():
    masks = torch.zeros(1, 6, 6)
    masks[0, :3, :2] = 1  # 6 of 9 pixels
    masks[0, 3, :3] = 1  # 3 of 9
    masks[0, :, 5] = 1  # 3 of 9
    assert on_patches(masks, 2).tolist() == [[[1, 0], [0, 0]]]
    half = torch.zeros(1, 4, 4)
    half[0, :2, 0] = 1
    assert on_patches(half, 2)[0].tolist() == [[1, 0], [0, 0]]


class Quadratic(nn.Module):
    """logit_c = sum over pixels of w_c x^2 / 2: its gradient with respect to a pixel is w_c x."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)  # (C, 3, S, S)

    def forward(self, x):
        return (self.weight[None] * x[:, None] ** 2 / 2).sum((2, 3, 4))


def case_of_inputs():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    weight = 0.3 * torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    masks = (torch.rand(3, 4, 4, generator=generator) < 0.4).double()
    return x.requires_grad_(), Quadratic(weight), masks


def test_grad_masks_gradient_is_the_one_worked_out_by_hand():
    """mean of ((1 - s) w_y x)^2, whose derivative is 2 (1 - s) w_y x^2 / N for w_y."""
    x, model, masks = case_of_inputs()
    classes = torch.tensor([1, 4, 1])
    loss = grad_mask(model(x), x, masks, classes)
    loss.backward()
    outside, pixels = (1 - masks)[:, None].numpy(), x.detach().numpy()
    weight = model.weight.detach().numpy()
    assert loss.item() == pytest.approx(((outside * weight[classes] * pixels) ** 2).mean(), rel=1e-12)
    expected = np.zeros_like(weight)
    for row, label in enumerate(classes):
        expected[label] += 2 * outside[row] * weight[label] * pixels[row] ** 2 / pixels.size
    np.testing.assert_allclose(model.weight.grad.numpy(), expected, rtol=1e-12)
    assert np.abs(expected).max() > 0


def test_rights_for_right_reasons_gradient_is_the_one_worked_out_by_hand():
    """With p the probabilities and C classes, d sum log p / dx = x v with v = sum_c w_c - C sum_c p_c w_c."""
    x, model, masks = case_of_inputs()
    loss = right_reasons(model(x), x, masks)
    loss.backward()
    weight, n_classes = model.weight.detach(), len(model.weight)

    def by_hand(weight):
        p = (weight[None] * x.detach()[:, None] ** 2 / 2).sum((2, 3, 4)).softmax(1)
        v = weight.sum(0) - n_classes * torch.einsum("bc,cdhw->bdhw", p, weight)
        return (((1 - masks)[:, None] * x.detach() * v) ** 2).sum()

    assert loss.item() == pytest.approx(by_hand(weight).item(), rel=1e-12)
    step, direction = 1e-6, torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)).double()
    slope = (by_hand(weight + step * direction) - by_hand(weight - step * direction)) / (2 * step)
    assert (model.weight.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-7)
    assert abs(slope.item()) > 1e-3


def test_the_term_for_the_class():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.4]], dtype=torch.float64)
    labels = torch.tensor([1, 1])
    p = torch.softmax(logits / 0.65, 1).numpy()
    own = classification(logits, labels, "self_label", 0.65)
    assert own.item() == pytest.approx(-np.log(p[[0, 1], [0, 1]]).mean(), rel=1e-12)
    truth = classification(logits, labels, "ground_truth", 0.65)
    assert truth.item() == pytest.approx(-np.log(p[[0, 1], [1, 1]]).mean(), rel=1e-12)
    original = logits.flip(0)
    q = torch.softmax(original / 0.65, 1).numpy()
    kept = classification(logits, labels, "kl_to_original", 0.65, original)
    assert kept.item() == pytest.approx((q * np.log(q / p)).sum(1).mean(), rel=1e-12)
    assert classification(logits, labels, "kl_to_original", 0.65, logits).item() == pytest.approx(
        0, abs=1e-12
    )


def test_self_labels_move_nothing_where_the_network_is_certain():
    logits = torch.tensor([[900.0, 0.0]], requires_grad=True)
    loss = classification(logits, torch.tensor([1]), "self_label")
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def losses_of(maps, masks):
    """Every loss that looks at masks, by name; the gradients are those of a linear network."""
    weights = torch.rand(4, 3, *maps.shape[1:], generator=torch.Generator().manual_seed(1), dtype=maps.dtype)
    inputs = maps[:, None].expand(-1, 3, -1, -1).clone().requires_grad_()
    logits = (inputs[:, None] * weights).sum((2, 3, 4)).tanh()
    return {
        "by pixels": concept_alignment(maps, masks, 0.5, 1.2),
        "by regions": concept_alignment(maps, masks, 0.5, 1.2, region_norm=True),
        "squared": squared_alignment(maps, masks, 0.3, 2.0),
        "right reasons": right_reasons(logits, inputs, masks),
        "grad mask": grad_mask(logits, inputs, masks, torch.zeros(len(maps), dtype=torch.int64)),
    }


def test_pixels_to_ignore_are_as_if_the_image_ended_before_them():
    """The lower rows are to ignore; beside it, maps and inputs that have only the upper ones."""
    maps, masks = random_case()
    ended = masks.clone()
    ended[:, SIDE // 2 :] = IGNORE
    found = losses_of(maps, ended)
    weights = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=maps.dtype)
    upper = slice(0, SIDE // 2)
    cut = {
        "by pixels": concept_alignment(maps[:, upper], masks[:, upper], 0.5, 1.2),
        "by regions": concept_alignment(maps[:, upper], masks[:, upper], 0.5, 1.2, region_norm=True),
        "squared": squared_alignment(maps[:, upper], masks[:, upper], 0.3, 2.0),
    }
    for name, value in cut.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-12), name
    inputs = maps[:, None].expand(-1, 3, -1, -1).clone().requires_grad_()
    logits = (inputs[:, None] * weights).sum((2, 3, 4)).tanh()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), inputs)
    beside = (gradient * (1 - masks)[:, None])[:, :, upper]
    assert found["grad mask"].item() == pytest.approx(beside.square().mean().item(), rel=1e-12)


def test_what_is_in_pixels_to_ignore_changes_no_loss():
    maps, masks = random_case()
    masks[:, 7:9] = IGNORE
    other = maps.clone()
    other[:, 7:9] = 0.5
    kept = {"right reasons", "grad mask"}  # their logits read the whole input
    for name, value in losses_of(maps, masks).items():
        if name not in kept:
            assert losses_of(other, masks)[name].item() == value.item(), name


def test_a_patch_goes_by_the_pixels_that_count():
    masks = torch.zeros(1, 4, 4)
    masks[0, :2, :2] = torch.tensor([[1.0, IGNORE], [IGNORE, IGNORE]])
    masks[0, :2, 2:] = torch.tensor([[1.0, 0.0], [0.0, IGNORE]])
    masks[0, 2:, :2] = IGNORE
    assert on_patches(masks, 2)[0].tolist() == [[1, 0], [IGNORE, 0]]
