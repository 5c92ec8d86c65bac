"""Pictures that a method draws itself follow its explanations, at full width."""

import json
from pathlib import Path

import pytest
from PIL import Image

from analysis.page.report import write_report
from grid.results.store import ResultsStore
from tests.analysis.conftest import fill


def test_drawings_follow_explanations_and_a_lost_picture_is_left_out(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    left = tmp_path / "salf_cbm-10-0"
    Image.new("RGB", (900, 80)).save(left / "pictures" / "rules.png")
    listed = [
        {"file": "pictures/rules.png", "caption": "global rules: 3 of 4 weights", "wide": True},
        {
            "file": "pictures/7.png",
            "caption": "image 7: a crest\n1: 90 %  <red>\n2: 10 %  tail",
            "wide": False,
        },
        {"file": "pictures/8.png", "caption": "image 8: a file that is gone", "wide": False},
    ]
    (left / "pictures.json").write_text(json.dumps(listed))
    write_report(store, "small", tmp_path / "small.html")
    page = (tmp_path / "small.html").read_text()
    assert page.index("image 7: a crest") < page.index("global rules: 3 of 4 weights")
    assert page.count('<figure class="drawing">') == 1
    assert "a file that is gone" not in page
    assert "<ul><li>1: 90 %  &lt;red&gt;</li><li>2: 10 %  tail</li></ul>" in page
    assert 'width="900" height="80" alt="global rules: 3 of 4 weights"' in page
    assert page.count("1 of 3 pictures are left out: pictures/8.png is gone") == 1


def test_what_is_no_picture_is_left_out_and_named(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    (tmp_path / "salf_cbm-10-0" / "pictures" / "7.png").write_bytes(b"no picture")
    write_report(store, "small", tmp_path / "small.html")
    page = (tmp_path / "small.html").read_text()
    assert page.count("1 of 1 pictures are left out: pictures/7.png is no picture") == 1


@pytest.mark.parametrize("content", ["", "{", "{}", '[{"file": "pictures/7.png"}]', "[1]"])
def test_a_list_of_pictures_that_was_cut_short_is_named_and_the_next_seeds_are_shown(
    tmp_path: Path, content: str
) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    (tmp_path / "salf_cbm-10-0" / "pictures.json").write_text(content)
    write_report(store, "small", tmp_path / "small.html")
    page = (tmp_path / "small.html").read_text()
    assert page.count("its pictures are left out: trial salf_cbm-10-0: pictures.json") == 1
    assert "python -m grid rerun salf_cbm-10-0" in page
    assert page.count("image 7: a crest") == 4, "two methods, each with a caption and what is said of it"
