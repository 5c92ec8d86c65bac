"""ERM on batches in which every group is drawn equally often."""

from dataclasses import dataclass, replace

from components.models.training.recipe import Recipe
from components.studies.baselines.trained_classifier import TrainedClassifier


@dataclass(frozen=True, kw_only=True)
class GroupBalanced(TrainedClassifier):
    """Resampling by group: it reads the training images' groups. An image may be drawn many times an epoch,
    which has as many draws as the training split has images.
    """

    @property
    def trained_by(self) -> Recipe:
        return replace(self.recipe, objective="group_balanced")
