"""Tables as people's programs save them: read, or refused in one line with the file and the place."""

import pytest

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.data.tables import read_table

CARD = load_card("toybirds")
NAMES = "img_id,img_filename,y,split,place"
ROW = "1,é.jpg,0,0,1"


def read(root, content):
    (root / "metadata.csv").write_bytes(content)
    return WaterbirdsCsv().read(root, CARD)


@pytest.mark.parametrize(
    "content",
    [
        f"{NAMES}\n{ROW}\n".encode(),
        f"{NAMES}\n{ROW}\n".encode("utf-8-sig"),
        f"{NAMES}\r\n{ROW}\r\n\r\n".encode(),
        f'{NAMES}\n1,"é.jpg",0,0,1'.encode(),
    ],
)
def test_encodings_and_ends_of_lines_that_say_the_same(tmp_path, content):
    index = read(tmp_path, content)
    assert (index.image_ids.tolist(), index.paths.tolist(), index.groups.tolist()) == ([1], ["é.jpg"], [1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{NAMES}\n{ROW}\n".encode("utf-16"), "line 1: byte 0xff is no UTF-8"),
        (f"{NAMES}\n{ROW}\n".encode("utf-16-le")[:24], "line 1: a NUL character"),
        (f"{NAMES}\n{ROW}\n".encode("latin-1"), "line 2: byte 0xe9 is no UTF-8; save the table as UTF-8"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (f"{NAMES}\n1,a\x00.jpg,0,0,1\n".encode(), "line 2: a NUL character"),
        (f"{NAMES}\n{ROW}\n2,b.jpg,0,0\n".encode(), "line 3: 4 values, the first line has 5"),
        (f"{NAMES}\n{ROW},9\n".encode(), "line 2: 6 values, the first line has 5"),
        (f"{NAMES}\n{ROW}\n2,b.jpg,0,0,1,9\n".encode(), "line 3: 6 values"),
        (f"{NAMES}\n{2**63},b.jpg,0,0,1\n".encode(), f"row 1 has {2**63}"),
        (
            f"{NAMES}\n{ROW}\n{2**70},b.jpg,0,0,1\n".encode(),
            f"img_id must be .* 64 bits, row 2 has '?{2**70}",
        ),
        (f"{NAMES}\n{ROW}\nnext,b.jpg,0,0,1\n".encode(), "row 2 has 'next'"),
        (f"{NAMES}\n{ROW}\n2,b.jpg,{2**70},0,1\n".encode(), r"y must be 0\.\.1"),
        (NAMES.replace("y", "x").encode(), "no column y"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, content, said):
    with pytest.raises(DataError, match=said) as stop:
        read(tmp_path, content)
    assert "metadata.csv" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_table_without_a_line_of_names(tmp_path):
    (tmp_path / "images.txt").write_text("1 a.jpg\n2 b c.jpg\n")
    with pytest.raises(DataError, match=r"images\.txt, line 2: 3 values, the first line has 2"):
        read_table(tmp_path / "images.txt", ("id",), sep=" ", names=["id", "path"], header=None)
