import numpy as np
from sklearn.metrics import top_k_accuracy_score

from components.metrics.label_space import NO_CLASS, hits, top_classes

STREAM = np.random.default_rng(0)
LOGITS, LABELS = STREAM.normal(size=(200, 12)), STREAM.integers(0, 12, 200)
EVERY = np.arange(12)


def test_with_one_right_class_it_is_scikit_learns_top_k():
    right = np.eye(12, dtype=bool)[LABELS]
    for k in (1, 2, 5):
        expected = top_k_accuracy_score(LABELS, LOGITS, k=k, labels=EVERY)
        assert hits(top_classes(LOGITS, k, EVERY), right).mean() == expected


def test_among_some_classes_the_others_might_as_well_not_be_there():
    among = np.array([1, 4, 5, 9])
    members = np.isin(LABELS, among)
    right = np.eye(12, dtype=bool)[LABELS[members]]
    labels = np.searchsorted(among, LABELS[members])
    for k in (1, 2):
        expected = top_k_accuracy_score(labels, LOGITS[members][:, among], k=k, labels=range(4))
        assert hits(top_classes(LOGITS[members], k, among), right).mean() == expected


def test_any_right_class_counts():
    right = STREAM.random((200, 12)) < 0.3
    order = [sorted(range(12), key=lambda c, row=row: -LOGITS[row, c]) for row in range(200)]
    for k in (1, 3):
        expected = [any(right[row, c] for c in order[row][:k]) for row in range(200)]
        assert hits(top_classes(LOGITS, k, EVERY), right).tolist() == expected
    assert not hits(top_classes(LOGITS, 12, EVERY), np.zeros((200, 12), bool)).any()


def test_places_without_a_class_are_never_right():
    found = top_classes(LOGITS, 5, np.array([3, 1]))
    assert (np.sort(found[:, :2]) == [1, 3]).all()
    assert (found[:, 2:] == NO_CLASS).all()
    only = np.zeros((200, 12), bool)
    only[:, [0, 11]] = True  # where an index of 0 or of -1 would look
    assert not hits(found, only).any()


def test_of_equal_logits_the_first_class_comes_first():
    assert top_classes(np.zeros((1, 4)), 3, np.arange(4)).tolist() == [[0, 1, 2]]
    assert top_classes(np.zeros((1, 4)), 1, np.array([2, 3])).tolist() == [[2]]
