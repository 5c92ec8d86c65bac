import numpy as np
import pytest

from components.studies.guided_fine_tuning.few_shot import few_shot

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 20))
IDS = 3 * np.arange(len(LABELS))


def labels_of(ids):
    return LABELS[ids // 3]


@pytest.mark.parametrize(("share", "classes"), [(0.01, 1), (0.3, 3), (0.5, 5), (1.0, 10)])
def test_each_chosen_class_has_its_images_and_each_other_is_held_out(share, classes):
    drawn = few_shot(IDS, LABELS, 3, share, 2, seed=1)
    assert len(drawn.classes) == classes
    counts = np.bincount(labels_of(drawn.trained), minlength=10)
    assert (counts[drawn.classes] == 3).all()
    assert counts.sum() == 3 * classes
    held_out = np.bincount(labels_of(drawn.held_out), minlength=10)
    others = np.setdiff1d(np.arange(10), drawn.classes)
    assert held_out.tolist() == [2 if label in others or classes == 10 else 0 for label in range(10)]
    assert not np.intersect1d(drawn.trained, drawn.held_out).size


def test_less_is_part_of_more():
    for share in (0.5, 1.0):
        few, many = (few_shot(IDS, LABELS, n, share, 2, seed=1) for n in (3, 10))
        assert set(few.trained) < set(many.trained)
        assert few.held_out.tolist() == many.held_out.tolist()
    half, whole = (few_shot(IDS, LABELS, 3, share, 0, seed=1) for share in (0.5, 1.0))
    assert set(half.trained) < set(whole.trained)


def test_the_seed_chooses_classes_and_images_and_nothing_else_does():
    one, again, other = (few_shot(IDS, LABELS, 3, 0.5, 2, seed) for seed in (1, 1, 2))
    assert one.trained.tolist() == again.trained.tolist()
    assert one.classes.tolist() != other.classes.tolist()
    whole = [few_shot(IDS, LABELS, 3, 1.0, 2, seed).trained.tolist() for seed in (1, 2)]
    assert whole[0] != whole[1]


def test_a_small_class_gives_what_it_has():
    labels = np.array([0, 0, 0, 1])
    drawn = few_shot(np.arange(4), labels, 5, 1.0, 1, seed=0)
    assert len(drawn.trained) == 2
    assert len(drawn.held_out) == 2
    assert not np.intersect1d(drawn.trained, drawn.held_out).size
