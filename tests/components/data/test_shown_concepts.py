"""What a card says of its images' concepts, against what the generator drew."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from components.data.card import load_card
from components.data.fingerprint import FileHashes, fingerprint
from components.data.generators.toybirds import Toybirds
from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.data.shown_concepts import Shows, shown_concepts
from components.toybirds.birds import load_birds

CARD = load_card("toybirds")
CONCEPTS = CARD.vocabulary()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "birds"
    Toybirds(n_train=40, n_val=4, n_test=4, correlation=0.5, fog_high=0.5, seed=3).generate(root)
    return root


def test_concepts_are_those_that_were_drawn(root):
    """The captions that the small CLIP is trained on are another reading of the same table."""
    index = WaterbirdsCsv().read(root, CARD)
    train = index.rows(index.splits == "train")
    shown = shown_concepts(CARD.shows, train, CONCEPTS, CARD.parts)
    birds = load_birds(root, "train")
    for place, concept in enumerate(CONCEPTS):
        if concept != "fog":
            expected = [concept in of_bird.values() for of_bird in birds.shown]
            assert shown.images[:, place].tolist() == expected, concept
    assert shown.known.tolist() == [concept != "fog" for concept in CONCEPTS]
    assert shown.parts[CONCEPTS.index("striped wing")] == CARD.parts.index("wing")
    assert shown.parts[CONCEPTS.index("grass")] == -1
    turned = shown_concepts(CARD.shows, train.rows(np.arange(len(train))[::-1]), CONCEPTS, CARD.parts)
    np.testing.assert_array_equal(turned.images, shown.images[::-1])


def test_nothing_is_known_where_the_card_says_nothing_or_the_table_is_gone(root, tmp_path):
    index = WaterbirdsCsv().read(root, CARD)
    assert not shown_concepts(None, index, CONCEPTS, CARD.parts).known.any()
    elsewhere = replace(index, root=tmp_path)
    assert not shown_concepts(CARD.shows, elsewhere, CONCEPTS, CARD.parts).known.any()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda table: table.drop(columns="beak"), "no column beak"),
        (lambda table: table[1:], "no row of image 0"),
        (lambda table: pd.concat([table, table[:1]]), "an img_id twice"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_when_the_data_set_is_read(root, tmp_path, edit, says):
    for name in ("metadata.csv", "attributes.csv"):
        table = pd.read_csv(root / name)
        (edit(table) if name == "attributes.csv" else table).to_csv(tmp_path / name, index=False)
    with pytest.raises(DataError, match=says):
        WaterbirdsCsv().read(tmp_path, CARD)


def test_a_table_of_ones_own_is_part_of_what_the_data_set_is(root, tmp_path):
    """Of a generator's the images say the same."""
    own = CARD.model_copy(update={"generator": None})
    drawn, given = (WaterbirdsCsv().read(root, card) for card in (CARD, own))
    hashes = FileHashes(tmp_path / "hashes.json")
    assert fingerprint(drawn, hashes) == fingerprint(replace(given, tables=()), hashes)
    before = fingerprint(given, hashes)
    assert before != fingerprint(drawn, hashes)
    path = root / "attributes.csv"
    content = path.read_text()
    try:
        path.write_text(content.replace("flat", "pointed", 1))
        assert fingerprint(given, FileHashes(tmp_path / "others.json")) != before
    finally:
        path.write_text(content)


def test_a_card_says_it_in_one_form():
    with pytest.raises(ValueError, match="concepts"):
        Shows(table="a.csv", id="img_id")
