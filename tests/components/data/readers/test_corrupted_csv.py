import pandas as pd
import pytest

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.corrupted_csv import CorruptedCsv
from tests.world import draw_waterbirds

CARD = load_card("toybirds_c")


@pytest.fixture
def root(tmp_path):
    """Waterbirds, rows in no order of ids, its test images snowed on."""
    root = draw_waterbirds(tmp_path, per_group=2, side=8)
    edit(root, corruption=lambda t: t["split"].map({2: "snow"}), severity=lambda t: t["split"].map({2: 4}))
    return root


def edit(root, **columns):
    pd.read_csv(root / "metadata.csv").assign(**columns).to_csv(root / "metadata.csv", index=False)


def test_clean_images_have_waterbirds_groups_and_the_others_their_corruption(root):
    index = CorruptedCsv().read(root, CARD)
    told = pd.read_csv(root / "metadata.csv").set_index("img_id").loc[index.image_ids]
    clean = (told["split"] != 2).to_numpy()
    assert (index.groups[clean] == (2 * told["y"] + told["place"])[clean]).all()
    assert set(index.groups[~clean]) == {4}
    assert index.group_names[4:] == ("snow 4",)


def test_what_is_wrong_is_named(root):
    edit(root, severity=6)
    with pytest.raises(DataError, match=r"severity must be 1\.\.5"):
        CorruptedCsv().read(root, CARD)
    edit(root, severity=None)
    with pytest.raises(DataError, match=r"severity must be 1\.\.5"):
        CorruptedCsv().read(root, CARD)
    pd.read_csv(root / "metadata.csv").drop(columns="severity").to_csv(root / "metadata.csv", index=False)
    with pytest.raises(DataError, match="no column severity"):
        CorruptedCsv().read(root, CARD)
