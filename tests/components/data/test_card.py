import pickle

import pytest

from components.data import card as cards
from components.data.card import UNLABELLED, Card, CardError, MissingVocabulary, card_names, load_card

GOOD = """
title: a
source: b
licence: c
layout: image_folder
image_size: 32
classes: [x, y]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "DATASETS", tmp_path)
    (tmp_path / "small").mkdir()
    return tmp_path / "small"


def test_a_card_reads_its_vocabulary(folder):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_text("# wings and such\nwing\n\n  long beak \n")
    card = load_card("small")
    assert (card.name, card.classes, card.image_size) == ("small", ("x", "y"), 32)
    assert card.vocabulary() == ("wing", "long beak")


def test_a_vocabulary_that_is_not_there_is_empty_and_says_what_to_do(folder):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_text("wing\n")
    missing = load_card("small").vocabulary("other")
    assert isinstance(missing, MissingVocabulary)
    assert missing == ()
    assert "no datasets/small/other.txt, there is: concepts" in missing.problem
    assert missing.problem.endswith("grid concepts small --provider URL --model NAME --out other")
    again = pickle.loads(pickle.dumps(missing))
    assert (type(again), again.problem) == (MissingVocabulary, missing.problem)


def test_classes_of_a_table_and_none_of_them(folder):
    (folder / "card.yaml").write_text(GOOD.replace("[x, y]", "../names.tsv"))
    (folder.parent / "names.tsv").write_text("# folder, name\nn1\ta crane\nn2\ta bird\n")
    card = load_card("small")
    assert (card.folders, card.classes) == (("n1", "n2"), ("a crane", "a bird"))
    (folder / "card.yaml").write_text(GOOD.replace("[x, y]", "../names.tsv") + "labelled: false")
    assert load_card("small").classes == ("a crane", "a bird", UNLABELLED)
    (folder.parent / "names.tsv").write_text("n1\ta crane\nn2 a bird\n")
    with pytest.raises(CardError, match="n2 a bird"):
        load_card("small")
    (folder.parent / "names.tsv").unlink()
    with pytest.raises(CardError, match=r"names\.tsv"):
        load_card("small")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "colour: red", "colour"),
        (GOOD.replace("32", "4"), "image_size"),
        (GOOD.replace("title: a", ""), "title"),
        (GOOD + "name: big", "name"),
        (GOOD.replace("classes: [x, y]", "labelled: false"), "classes"),
        ("", "mapping"),
        ("classes: [x, y", "card.yaml"),
        ("root: !!python/object:os.system {}", "card.yaml"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(folder, text, says):
    (folder / "card.yaml").write_text(text)
    with pytest.raises(CardError, match=says) as caught:
        load_card("small")
    assert "\n" not in str(caught.value)


def test_an_unknown_data_set_and_a_repeated_concept(folder):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "twice.txt").write_text("wing\nwing\n")
    with pytest.raises(CardError, match="small"):
        load_card("smal")
    with pytest.raises(CardError, match="twice"):
        load_card("small").vocabulary("twice")
    (folder / "empty.txt").write_text("# to be written\n\n")
    with pytest.raises(CardError, match=r"empty\.txt of small names no concept"):
        load_card("small").vocabulary("empty")


@pytest.mark.parametrize("name", card_names())
def test_every_card_that_ships_is_valid(name):
    card = load_card(name)
    assert isinstance(card, Card)
    assert len(set(card.classes)) == len(card.classes) > 1
    assert not card.folders or len(set(card.folders)) == len(card.classes) - (not card.labelled)
    if not isinstance(card.vocabulary(), MissingVocabulary):
        assert len(card.vocabulary()) > len(card.classes)


def test_imagenets_classes_are_those_of_networks():
    """Names and order as timm has them, from another of its tables."""
    from timm.data import ImageNetInfo

    card, told = load_card("imagenet"), ImageNetInfo("imagenet-1k")
    assert card.folders == tuple(told.label_names())
    assert len(card.classes) == 1000
    for index, name in enumerate(card.classes):
        assert name.partition(" (")[0] in told.index_to_description(index, detailed=False)


def test_the_sizes_of_the_papers_data_sets():
    sizes = {name: len(load_card(name).classes) for name in ("cub", "places365", "imagenet")}
    assert sizes == {"cub": 200, "places365": 365, "imagenet": 1000}
    assert len(load_card("cub").vocabulary()) == 312
