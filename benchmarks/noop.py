"""A method that does nothing, to time everything around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.method import LAST, Fitted, Method, Metric, Report
from components.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Noop(Method):
    """Predicts class 0."""

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        return {}

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        return Fitted()

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return np.zeros((len(ids), len(data.card.classes)), np.float32)

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        return [Metric("average_accuracy", 0.5, "test")]
