"""The trained network that a method starts from: its backbone's checkpoint, or a classifier by a recipe."""

from dataclasses import replace

from components.data.card import Card
from components.data.sample import Sample
from components.models.networks.backbone import Backbone
from components.models.training.recipe import Recipe
from components.stages.backbone_images import BackboneImages
from components.stages.base.network_stage import FramedNetwork
from components.stages.classifier import Classifier
from components.stages.classifier_head import ClassifierHead
from components.stages.mirrored_images import MirroredImages


def check_start(backbone: Backbone, recipe: Recipe | None) -> None:
    """ValueError where a trunk would stay as it was drawn at random."""
    if backbone.checkpoint is None and (recipe is None or recipe.trainable == "head"):
        said = "recipe is null" if recipe is None else "recipe.trainable is head"
        raise ValueError(f"{said} and backbone has no checkpoint: its weights are random")


def classifier_of(card: Card, backbone: Backbone, recipe: Recipe | None, seed: int) -> Classifier | None:
    """The classifier stage of a data set: its classes, its image size; None without a recipe. It is trained
    in fp32 whatever the precision of the backbone's features, and is the same classifier on every device;
    but a head is trained on these features, which are the same for every seed, objective and number of
    epochs."""
    if recipe is None:
        return None
    classifier = Classifier(
        backbone=replace(backbone, precision="fp32"),
        recipe=recipe,
        n_classes=len(card.classes),
        image_size=card.image_size,
        seed=seed,
    )
    if recipe.trainable == "all":
        return classifier
    network = FramedNetwork(backbone=backbone, classifier=None, image_size=card.image_size)
    return ClassifierHead(
        **vars(classifier),
        features=BackboneImages(**vars(network)),
        mirrored=MirroredImages(**vars(network), sample=Sample(split="train")),
    )


def trunk_of(card: Card, backbone: Backbone, recipe: Recipe | None, seed: int) -> Classifier | None:
    """The classifier stage whose trunk makes features; None where that is the checkpoint's own."""
    if recipe is None or recipe.trainable == "head":
        return None
    return classifier_of(card, backbone, recipe, seed)
