"""The images that one configuration gets wrong and another right, on the page."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text

from analysis.compare import Wanted
from analysis.images.errors import errors
from analysis.page.report import write_report
from grid.results.store import ResultsStore
from grid.stores.evidence import PICTURES, PREDICTIONS
from tests.analysis.images.test_errors import PREDICTIONS_OF, leave, rows_of
from tests.analysis.page.test_report import Page

TESTED = """
INSERT INTO metric (trial_id, name, split, group_name, selection, value, status)
SELECT id, 'worst_group_accuracy', 'test', 'all', 'last', 0.5, 'ok' FROM trial
"""


@pytest.fixture
def store(tmp_path: Path) -> ResultsStore:
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, format="JPEG")
    for key, predicted in PREDICTIONS_OF.items():
        trial = leave(opened, tmp_path, key, rows_of(key[0], predicted))
        (file,) = re.findall(r"pictures/\w+.jpg", (tmp_path / trial / PICTURES).read_text())
        (tmp_path / trial / "pictures").mkdir()
        (tmp_path / trial / file).write_bytes(stream.getvalue())
    with opened.writing() as connection:
        connection.execute(text(TESTED))
    return opened


def test_the_page_has_both_kinds_with_what_decided_and_a_picture(store: ResultsStore, tmp_path: Path) -> None:
    write_report(store, "birds", tmp_path / "birds.html")
    page = Page((tmp_path / "birds.html").read_text())
    titles = [title for title in page.headings if " is wrong, " in title]
    sides = [("standard", "lf_cbm"), ("lf_cbm", "standard")]
    found = [errors(store, Wanted("birds"), *pair).images for pair in sides]
    assert titles == [
        f"{a} is wrong, {b} is right: {len(images)} test images"
        for (a, b), images in zip(sides, found, strict=True)
    ]
    rows = [row for row in page.rows["mistakes"] if row[0] != ["image"]]
    assert len(rows) == 12
    drawn = [images[["picture_a", "picture_b"]].notna().any(axis=1) for images in found]
    first = [
        number
        for images, has in zip(found, drawn, strict=True)
        for number in [*images[has]["image_id"], *images[~has]["image_id"]][:6]
    ]
    assert [int(row[0][0]) for row in rows] == first, "those with a picture, then those of most seeds"
    assert all(f"crest of {row[0][0]} +1.25" in " ".join(row[4]) for row in rows)
    pictures = [text for text in page.alternatives if "with what a method looked at" in text]
    assert len(pictures) == sum(min(int(has.sum()), 6) for has in drawn) > 0


def test_predictions_that_are_not_what_was_written_are_left_out_with_the_reason(
    store: ResultsStore, tmp_path: Path
) -> None:
    (tmp_path / "standard-1-0" / PREDICTIONS).write_bytes(b"cut")
    write_report(store, "birds", tmp_path / "birds.html")
    said = " ".join(Page((tmp_path / "birds.html").read_text()).texts)
    assert (
        "its images are left out: trial standard-1-0: predictions.parquet is not what the trial wrote" in said
    )


def test_where_trials_left_no_predictions_there_is_no_such_part(store: ResultsStore, tmp_path: Path) -> None:
    for file in tmp_path.glob(f"*/{PREDICTIONS}"):
        file.unlink()
        manifest = file.parent / "manifest.json"
        manifest.write_text("{}")
    write_report(store, "birds", tmp_path / "birds.html")
    assert "Who is wrong where" not in (tmp_path / "birds.html").read_text()
