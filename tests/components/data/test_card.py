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
        (GOOD + "titel: b", "unknown key 'titel'; did you mean 'title'"),
        (GOOD + "title: b", "key 'title' stands twice, in lines 2 and 8"),
        (GOOD + "labelled: 'no'", "labelled = 'no': input should be a valid boolean"),
        (GOOD + "labelled: 0", "labelled = 0"),
        (GOOD.replace("32", "yes"), "image_size = True"),
        (GOOD.replace("32", ".inf"), "image_size = inf"),
        (GOOD.replace("[x, y]", "[x, y, x]"), "classes: 'x' is blank or stands twice"),
        (GOOD.replace("[x, y]", "[x, ' ']"), "classes: ' ' is blank"),
        (GOOD.replace("[x, y]", "[]"), "classes"),
        (GOOD.replace("[x, y]", "[yes, no]"), "classes.0 = True"),
        (GOOD + "places: [land, land]", "places: 'land'"),
        (GOOD + "masks: masks/{steam}.png", "masks: expected a path with {stem}"),
        (GOOD + "masks: masks/all.png", "masks: expected a path with {stem}"),
        (GOOD + "part_masks: parts/{stem.png", "part_masks: expected a path with {stem}"),
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


@pytest.mark.parametrize("raw", [b"\xef\xbb\xbf# made by hand\nwing\n", b"\xef\xbb\xbfwing\r\n"])
def test_a_byte_order_mark_is_neither_a_concept_nor_part_of_one(folder, raw):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_bytes(raw)
    assert load_card("small").vocabulary() == ("wing",)


TWINS = ["Wing", "WING ", "wing", "long  beak", "long\tbeak", "Long\u00a0beak", "cafe\u0301", "\uff37ing"]


@pytest.mark.parametrize("twin", TWINS)
def test_concepts_that_clip_reads_as_one_are_refused_with_their_lines(folder, twin):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_text(f"# three\nwing\nlong beak\ncaf\u00e9\n\n{twin}\n", encoding="utf-8")
    with pytest.raises(
        CardError, match=r"concepts\.txt of small names a concept twice: .* in line [234] and"
    ) as e:
        load_card("small").vocabulary()
    assert str(e.value).endswith("in line 6; remove one")


def test_concepts_that_differ_are_left_as_they_are(folder):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_text("a Wing\nwings\nlong  beak\nlongbeak\n")
    assert load_card("small").vocabulary() == ("a Wing", "wings", "long  beak", "longbeak")


@pytest.mark.parametrize("raw", ["Flügel\n".encode("latin-1"), "wing\n".encode("utf-16"), b"wing\nbe\0ak\n"])
def test_no_utf8_is_refused_in_a_vocabulary_a_card_and_a_table(folder, raw):
    (folder / "card.yaml").write_text(GOOD)
    (folder / "concepts.txt").write_bytes(raw)
    with pytest.raises(CardError, match=r"concepts\.txt, line [12]: byte 0x.. is no UTF-8 text"):
        load_card("small").vocabulary()
    (folder / "names.tsv").write_bytes(raw)
    (folder / "card.yaml").write_text(GOOD.replace("[x, y]", "names.tsv"))
    with pytest.raises(CardError, match=r"names\.tsv, line [12]: byte 0x.. is no UTF-8 text"):
        load_card("small")
    (folder / "card.yaml").write_bytes(raw)
    with pytest.raises(CardError, match=r"card\.yaml, line [12]: byte 0x.. is no UTF-8 text"):
        load_card("small")


@pytest.mark.parametrize("name", ["small/", "./small", "../small", "Small", "", "."])
def test_a_card_has_one_name(folder, name):
    """`small/` was a second name of small, so a spec could have a data set twice."""
    (folder / "card.yaml").write_text(GOOD)
    with pytest.raises(CardError, match="no data set"):
        load_card(name)


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
