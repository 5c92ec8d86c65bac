"""Group DRO (Sagawa et al. 2020, arXiv 1911.08731): the loss of the worst group."""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Gt

from components.models.training.recipe import Recipe
from components.studies.baselines.trained_classifier import TrainedClassifier


@dataclass(frozen=True, kw_only=True)
class GroupDro(TrainedClassifier):
    """Online group DRO on group-balanced batches: it reads the training images' groups.

    group_step: eta_q of Algorithm 1; group_adjustment: C of Eq. 5, added as C / sqrt(n_g) to the loss of a
    group of n_g training images where groups are weighed. The strong L2 penalty that the paper asks for is
    the recipe's `weight_decay`, here decoupled from the gradient (AdamW). The paper also stops early, by the
    worst group in validation; here the last epoch counts, as for every classifier.
    """

    group_step: Annotated[float, Gt(0)] = 0.01
    group_adjustment: Annotated[float, Ge(0)] = 0.0

    @property
    def trained_by(self) -> Recipe:
        return replace(
            self.recipe,
            objective="group_dro",
            group_step=self.group_step,
            group_adjustment=self.group_adjustment,
        )
