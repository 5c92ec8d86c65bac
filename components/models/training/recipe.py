"""How a classifier is trained."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

Objective = Literal["erm", "group_balanced", "group_dro"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW with a one-cycle schedule on the training split and cross-entropy.

    learning_rate: the peak; trainable: `all`, or `head` (the trunk stays as its checkpoint is);
    hue: colours are turned about the grey axis by up to this share of a full turn, at random per image;
    objective: `erm` makes no use of groups; `group_balanced` draws every group equally often; `group_dro`
    does so and weighs the groups' losses (arXiv 1911.08731), with the step size `group_step` (eta_q there)
    and the generalization adjustment `group_adjustment` (C there).
    """

    epochs: Annotated[int, Ge(1)] = 15
    learning_rate: Annotated[float, Gt(0)] = 3e-3
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    batch_size: Annotated[int, Ge(1)] = 64
    trainable: Literal["all", "head"] = "all"
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.0
    objective: Objective = "erm"
    group_step: Annotated[float, Gt(0)] = 0.01
    group_adjustment: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        if self.trainable == "head" and self.hue > 0:
            raise ValueError("hue needs trainable: all; the features of a frozen trunk are made once")
        if self.objective != "group_dro" and (self.group_step, self.group_adjustment) != (0.01, 0.0):
            raise ValueError("group_step and group_adjustment need objective: group_dro")
