"""Losses that pull a network's evidence into a mask (docs/methods/guided_fine_tuning.md, eqs. 15-24).

B images, S pixels (or patches) a side, C classes. maps (B, S, S) in [0, 1]; masks (B, S, S), bool, or 1
inside, 0 beside, and IGNORE where a pixel counts neither in a sum nor in what it is divided by. All are
computed in float32 at least, whatever autocast says.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, kl_div

from components.data.mask_files import IGNORE

CLAMP = 1e-6  # maps attain 0 and 1, where the logarithms' gradients in float32 are noise


def concept_alignment(
    maps: Tensor, masks: Tensor, lambda_concept: float, lambda_nc: float, region_norm: bool = False
) -> Tensor:
    """lambda_concept L_concept + lambda_nc L_nc, mean over images, with

        L_concept = - sum over the mask of log(map),   L_nc = - sum beside it of log(1 - map),

    each divided by all pixels, as CFT's code has it, or with `region_norm` by those that it sums over, at
    least one, as in the paper. Maps are clamped to [1e-6, 1 - 1e-6].
    """
    with torch.autocast(maps.device.type, enabled=False):
        values = _float(maps).clamp(CLAMP, 1 - CLAMP)
        inside, outside = _regions(masks, values)
        concept = -(inside * values.log()).sum((1, 2))
        beside = -(outside * (1 - values).log()).sum((1, 2))
        if region_norm:
            concept = concept / inside.sum((1, 2)).clamp(min=1)
            beside = beside / outside.sum((1, 2)).clamp(min=1)
        else:
            pixels = (inside + outside).sum((1, 2)).clamp(min=1)
            concept, beside = concept / pixels, beside / pixels
        return (lambda_concept * concept + lambda_nc * beside).mean()


def squared_alignment(
    maps: Tensor, masks: Tensor, lambda_foreground: float, lambda_background: float
) -> Tensor:
    """RobustViT's: lambda_background times the mean of (map (1 - mask))^2 over all pixels of all images, and
    lambda_foreground times that of (map mask - mask)^2."""
    with torch.autocast(maps.device.type, enabled=False):
        values = _float(maps)
        inside, outside = _regions(masks, values)
        pixels = (inside + outside).sum().clamp(min=1)
        background = (values * outside).square().sum() / pixels
        foreground = (values * inside - inside).square().sum() / pixels
        return lambda_background * background + lambda_foreground * foreground


def right_reasons(logits: Tensor, inputs: Tensor, masks: Tensor) -> Tensor:
    """RRR (Ross et al., IJCAI 2017): the sum over images, channels and pixels of the squared gradient of the
    sum of all classes' log-probabilities with respect to the inputs (B, 3, S, S), beside the masks.

    In the graph: logits must have been computed from `inputs`, which require a gradient.
    """
    gradient, _ = _beside(_float(logits).log_softmax(1).sum(), inputs, masks)
    return gradient.square().sum()


def grad_mask(logits: Tensor, inputs: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
    """GradMask (Simpson et al., 2019): the mean over images, channels and pixels of the squared gradient of
    the logit of each image's class (B,), beside the masks. In the graph, as for `right_reasons`."""
    gradient, pixels = _beside(logits.gather(1, classes[:, None]).sum(), inputs, masks)
    return gradient.square().sum() / (inputs.shape[1] * pixels)


def classification(
    logits: Tensor, labels: Tensor, kind: str, temperature: float = 1.0, original: Tensor | None = None
) -> Tensor:
    """Mean over images, of logits (B, C) divided by the temperature: cross-entropy with the network's own
    prediction (`self_label`) or with the labels (B,) (`ground_truth`), or the Kullback-Leibler divergence
    from what the logits of the `original` network say (`kl_to_original`). Never negative."""
    scaled = _float(logits) / temperature
    if kind == "kl_to_original":
        assert original is not None
        target = (_float(original) / temperature).log_softmax(1)
        return kl_div(scaled.log_softmax(1), target, reduction="batchmean", log_target=True)
    return cross_entropy(scaled, scaled.argmax(1) if kind == "self_label" else labels)


def on_patches(masks: Tensor, side: int) -> Tensor:
    """Masks (B, side, side) of patches from those of pixels (B, S, S): 1 where at least half of a patch's
    pixels that count are, IGNORE where none counts."""
    inside, outside = (
        adaptive_avg_pool2d(region[:, None], side)[:, 0] for region in _regions(masks, masks.float())
    )
    of_patches = (inside >= outside).to(inside.dtype)
    return of_patches.where(inside + outside > 0, torch.full_like(of_patches, IGNORE))


def _beside(score: Tensor, inputs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the score with respect to the inputs beside the masks, 0 elsewhere; and how many pixels
    count."""
    (gradient,) = torch.autograd.grad(score, inputs, create_graph=True)
    inside, outside = _regions(masks, _float(gradient))
    return _float(gradient) * outside[:, None], (inside + outside).sum().clamp(min=1)


def _regions(masks: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """What is in the masks and what is beside them, 1 and 0 in the dtype of `like`; pixels to ignore are in
    neither."""
    return (masks == 1).to(like.dtype), (masks == 0).to(like.dtype)


def _float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
