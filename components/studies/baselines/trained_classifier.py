"""What methods share whose model is a trained classifier stage: they are its evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.data.shifted_index import ShiftedIndex
from components.evaluation.accuracies import accuracy_metrics, accuracy_names, predictions_of, with_failures
from components.evaluation.shifted_sets import ranked, set_metrics
from components.method import LAST, Fitted, Method, Metric, Report
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.stages.classifier_head import ClassifierHead
from components.stages.head_logits import HeadLogits
from components.studies.starting_network import check_start, classifier_of


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier(Method):
    """Base of the methods on whole images. The classifier stage trains `backbone` by `trained_by`, on the
    training split, with the trial's seed; its last epoch is what is evaluated.

    recipe: without an objective, which is the method's.
    """

    backbone: Backbone = SmallCnn()
    recipe: Recipe = Recipe()

    def __post_init__(self) -> None:
        check_start(self.backbone, self.recipe)
        if self.recipe.objective != Recipe().objective:
            raise ValueError("recipe.objective is the method's own: leave it out")

    @property
    def trained_by(self) -> Recipe:
        """The recipe with the method's objective."""
        return self.recipe

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        classifier = classifier_of(card, self.backbone, self.trained_by, seed)
        assert classifier is not None  # there is a recipe
        if isinstance(classifier, ClassifierHead):
            features = classifier.features
            logits = HeadLogits(features=features, classifier=classifier)
            return {"classifier": classifier, "features": features, "logits": logits}
        both = BackboneImages(backbone=self.backbone, classifier=classifier, image_size=card.image_size)
        return {"classifier": classifier, "logits": both}

    def features(self, data: Data, ids: Ids) -> NDArray[np.float32]:
        """What the classifier's last layer sees of these images, (n, F)."""
        column = "features" if self.recipe.trainable == "head" else "logits"
        return data[column].array("features", ids)

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        return Fitted()

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return data["logits"].array("logits", ids)

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        metrics = []
        for split in self.evaluated:
            ids = data.split(split).ids
            logits = partial(self.predict, fitted, data)
            if isinstance(data.index, ShiftedIndex):
                rankings = ranked(data, data.usable_split(split).ids, logits)
                predictions = with_failures(data, ids, rankings[:, 0, 0])
                metrics += accuracy_metrics(data, split, predictions) + set_metrics(data, split, rankings)
            else:
                metrics += accuracy_metrics(data, split, predictions_of(data, ids, logits))
        return metrics

    def validated(self, card: Card) -> Mapping[str, frozenset[str]]:
        return {LAST: accuracy_names()} if "val" in self.evaluated else {}

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The splits that results are of."""
        return ("val", "test")
