"""Which candidate each rule of selection keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.models import mil_training
from components.models.mil_training import Selection

LABELS = np.array([0, 0, 0, 0, 1, 1])
GROUPS = np.array([0, 0, 0, 0, 1, 1])


class Candidate(torch.nn.Module):
    """A head that is right on the given images and carries its number."""

    def __init__(self, number, right):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(float(number)))
        self.predictions = np.where(np.isin(np.arange(6), right), LABELS, 1 - LABELS)


@pytest.fixture
def chosen(monkeypatch):
    monkeypatch.setattr(mil_training, "run_head", lambda head, bags: (np.eye(2)[head.predictions], None))

    def choose(*rights, labels=LABELS, groups=GROUPS):
        selection = Selection()
        for number, right in enumerate(rights):
            selection.consider(Candidate(number, right), SimpleNamespace(labels=labels, groups=groups))
        return {name.removesuffix("/number"): int(value) for name, value in selection.tensors.items()}

    return choose


def test_each_rule_keeps_its_first_best(chosen):
    """Averages 4/6, 5/6, 4/6, 5/6; worst groups 0, 1/2, 1/2, 1/2 ... and then 3/4 with the average 4/6."""
    majority, better, fair = [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 4]
    assert chosen(majority, better, fair, better) == {"last": 3, "val_average": 1, "val_worst_group": 1}
    spread = [1, 2, 3, 4, 5]
    assert chosen(better, spread, majority) == {"last": 2, "val_average": 0, "val_worst_group": 1}


def test_a_candidate_that_is_never_right_is_still_one(chosen):
    assert chosen([], []) == {"last": 1, "val_average": 0, "val_worst_group": 0}
