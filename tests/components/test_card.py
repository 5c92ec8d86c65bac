import pytest

from components import card as cards
from components.card import Card, CardError, card_names, load_card

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
    with pytest.raises(CardError, match="concepts"):
        card.vocabulary("other")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "colour: red", "colour"),
        (GOOD.replace("32", "4"), "image_size"),
        (GOOD.replace("title: a", ""), "title"),
        (GOOD + "name: big", "name"),
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
    assert len(card.vocabulary()) > len(card.classes)
