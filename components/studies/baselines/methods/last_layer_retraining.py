"""Deep feature reweighting (DFR; Kirichenko et al. 2023, arXiv 2204.02937)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.method import LAST, Fitted, Report
from components.studies.baselines.trained_classifier import TrainedClassifier


@dataclass(frozen=True, kw_only=True)
class LastLayerRetraining(TrainedClassifier):
    """The ERM classifier's features, standardised by a scaler of the training split, under a new last layer:
    the mean of `n_balanced` logistic regressions with an L1 penalty, each on as many images of every group as
    the smallest has.

    source: `val` (the paper's DFR with validation images): the strength of the penalty is the one with the
    best worst group on half of the validation split after training on the other half, and the layer is then
    trained on the whole, so that there are no results on the split val. `train`: balanced subsets of the
    training split, and the strength is chosen on the whole validation split.

    Either way it reads the groups of the validation split.
    """

    VERSION: ClassVar[int] = 2

    source: Literal["val", "train"] = "val"
    n_balanced: Annotated[int, Ge(1)] = 20

    @property
    def evaluated(self) -> tuple[str, ...]:
        return ("test",) if self.source == "val" else super().evaluated

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        from components.studies.baselines.balanced_regression import retrain

        parts = {name: data.usable_split(name) for name in ("train", "val")}
        features = {name: self.features(data, part.ids) for name, part in parts.items()}
        return retrain(features, parts, self.source, self.n_balanced, data.card.classes, seed, report)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return self.features(data, ids) @ fitted.tensors["weight"].T + fitted.tensors["bias"]
