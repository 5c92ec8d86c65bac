"""RRR, right for the right reasons (Ross et al., IJCAI 2017): no gradient of the inputs beside the mask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from components.studies.guided_fine_tuning.fine_tuned import FineTuned
from components.studies.guided_fine_tuning.knobs import Classification
from components.studies.guided_fine_tuning.training_masks import MaskSource

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Rrr(FineTuned):
    """lambda_nc: of the squared gradients, see `right_reasons`. Defaults are those that CFT's paper gives for
    ViT-B (its Table 8). With AdamW, mainly the ratio of lambda_nc and lambda_cls matters."""

    masks: MaskSource = "object"
    learning_rate: Annotated[float, Gt(0)] = 2e-6
    lambda_cls: Annotated[float, Ge(0)] = 2e-6
    classification: Classification = "ground_truth"
    lambda_nc: Annotated[float, Ge(0)] = 1e-10

    def guidance(
        self, network: "Network", pixels: "Tensor", masks: "Tensor", labels: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        from components.studies.guided_fine_tuning.losses import right_reasons
        from components.studies.guided_fine_tuning.networks import twice_differentiable

        inputs, logits = twice_differentiable(network, pixels)
        return self.lambda_nc * right_reasons(logits, inputs, masks), logits
