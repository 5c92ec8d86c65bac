"""ERM: the evaluation of a classifier stage, and nothing else."""

from dataclasses import dataclass

from components.studies.baselines.trained_classifier import TrainedClassifier


@dataclass(frozen=True, kw_only=True)
class Standard(TrainedClassifier):
    """Empirical risk minimisation on whole images: the baseline of every study."""
