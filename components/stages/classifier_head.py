"""The classifier stage whose trunk stays as its checkpoint is: a head on features that are there already."""

from dataclasses import dataclass

from components.stages.backbone_images import BackboneImages
from components.stages.classifier import Classifier
from components.stages.mirrored_images import MirroredImages


@dataclass(frozen=True, kw_only=True)
class ClassifierHead(Classifier):
    """The same tensors as the stage `classifier`. Each training image is seen as it is and mirrored, in turn
    at random, as by a classifier that is trained whole.

    features, mirrored: of that backbone; one of all images, the other of the training split.
    """

    features: BackboneImages
    mirrored: MirroredImages
