"""Where a data set is looked for, and what is refused before."""

from pathlib import Path

import pytest

from components.data import card as cards
from grid.inputs.datasets import locate
from grid.spec.spec import DatasetEntry, SpecError

KNOBS = {"n_train": 200}


def test_knobs_of_a_generator_are_what_is_drawn(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name in CONCEPTGRID_DATA was read instead, whatever it was drawn by."""
    (tmp_path / "data" / "toybirds").mkdir(parents=True)
    monkeypatch.setenv("CONCEPTGRID_DATA", str(tmp_path / "data"))
    assert locate(DatasetEntry(name="toybirds")).root == tmp_path / "data" / "toybirds"
    found = locate(DatasetEntry(name="toybirds", generator=KNOBS))
    assert found.root is not None
    assert found.root.parent == home / "data"
    assert found.generator is not None
    assert found.generator.n_train == 200


def test_knobs_of_a_generator_beside_a_root(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="knobs of generator change nothing of what is at root"):
        locate(DatasetEntry(name="toybirds", root=str(tmp_path), generator=KNOBS))


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        (
            {"train": 200},
            "data set toybirds, generator: unknown key of toybirds 'train'; did you mean 'n_train'",
        ),
        ({"n_train": True}, "data set toybirds, generator.n_train = True"),
        ({"fog_high": float("nan")}, "data set toybirds, generator.fog_high = nan"),
        (
            {"name": "toybird"},
            "data set toybirds, generator.name = 'toybird': toybirds has no name to choose; leave it out",
        ),
    ],
)
def test_knobs_that_do_not_exist(knobs: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        locate(DatasetEntry(name="toybirds", generator=knobs))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("generator: {n_train: 3}", "data set small, generator: unknown generator ''"),
        ("generator: {name: toybirds, n_trian: 3}", "unknown key of toybirds 'n_trian'"),
        (
            "generator: {name: corrupted, source: {n_trian: 3}}",
            "generator.source: unknown key of toybirds 'n_trian'",
        ),
        (
            "layout: waterbird_csv",
            "card of small: unknown layout 'waterbird_csv'; did you mean 'waterbirds_csv'",
        ),
    ],
)
def test_what_a_card_names(line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "DATASETS", tmp_path)
    (tmp_path / "small").mkdir()
    layout = "" if line.startswith("layout") else "layout: image_folder\n"
    text = f"title: a\nsource: b\nlicence: c\nimage_size: 32\nclasses: [x, y]\n{layout}{line}\n"
    (tmp_path / "small" / "card.yaml").write_text(text)
    with pytest.raises(SpecError, match=says):
        locate(DatasetEntry(name="small"))
