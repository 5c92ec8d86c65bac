"""What a classifier's training minimises: the images' mean loss, the groups' mean, or the worst group's.

n training images, B of a batch, C classes, G groups.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.models.training.recipe import Recipe

Ints = NDArray[np.int64]


class ErmObjective:
    """The mean cross-entropy of the images; an epoch is a permutation of them."""

    def __init__(self, labels: Ints, groups: Ints, recipe: Recipe, device: str) -> None:
        self.labels = labels
        self.groups = groups
        self.device = device

    def order(self, stream: np.random.Generator) -> Ints:
        """Rows (n,) of one epoch, in the order in which batches are cut."""
        return stream.permutation(len(self.labels))

    def loss(self, logits: Tensor, rows: Ints) -> Tensor:
        """What is minimised on the batch of these rows (B,), from its logits (B, C)."""
        return nn.functional.cross_entropy(logits, self._on_device(self.labels[rows]))

    def _on_device(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self.device)


class GroupBalancedObjective(ErmObjective):
    """ERM where every image is drawn, with replacement, from a group drawn evenly from those that training
    has: a group of one image gives that image 1 / G of all draws, a group without images none."""

    def order(self, stream: np.random.Generator) -> Ints:
        share = 1 / np.bincount(self.groups)[self.groups]
        return stream.choice(len(self.groups), len(self.groups), p=share / share.sum())


class GroupDroObjective(GroupBalancedObjective):
    """Group DRO (Sagawa et al. 2020, Algorithm 1 and Eq. 5) on group-balanced batches.

    `weights` (G,) starts even over the groups that training has and is 0 for the others. A batch multiplies
    the weight of each group g that it holds by exp(group_step (loss_g + group_adjustment / sqrt(n_g))):
    loss_g is the group's mean cross-entropy in the batch, n_g counts its training images. Then the weights
    are normalised, and the loss is sum_g weight_g loss_g. The adjustment moves the weights alone, since it
    has no gradient.

    Batches are balanced since the algorithm draws a group evenly, then an image of it: in batches drawn
    as they come, a small group is absent from most and its weight seldom moves.
    """

    def __init__(self, labels: Ints, groups: Ints, recipe: Recipe, device: str) -> None:
        super().__init__(labels, groups, recipe, device)
        counts = torch.from_numpy(np.bincount(groups)).to(device)
        self.step = recipe.group_step
        self.margins = recipe.group_adjustment / counts.clamp_min(1).sqrt()
        self.weights = (counts > 0) / (counts > 0).sum()

    def loss(self, logits: Tensor, rows: Ints) -> Tensor:
        groups = self._on_device(self.groups[rows])
        losses = nn.functional.cross_entropy(logits, self._on_device(self.labels[rows]), reduction="none")
        counts = torch.bincount(groups, minlength=len(self.weights))
        means = torch.zeros_like(self.weights).index_add(0, groups, losses) / counts.clamp_min(1)
        with torch.no_grad():
            exponents = self.step * (means + self.margins) * (counts > 0)
            # the largest exponent is taken off all, which the normalisation undoes: no overflow
            weights = self.weights * (exponents - exponents.max()).exp()
            self.weights = weights / weights.sum()
        return (self.weights * means).sum()


def objective_of(labels: Ints, groups: Ints, recipe: Recipe, device: str) -> ErmObjective:
    """The recipe's objective on training images with these labels (n,) and groups (n,)."""
    kinds = {"erm": ErmObjective, "group_balanced": GroupBalancedObjective, "group_dro": GroupDroObjective}
    return kinds[recipe.objective](labels, groups, recipe, device)
