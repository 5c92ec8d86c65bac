"""Image files as people have them, read by a worker: their picture, or a failure with its reason."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from components.data.columns import IMAGE_ID
from components.data.images import ImageIndex
from grid.stages import pipeline
from grid.stages.reading import ERROR, MASK, PART_MASK, PATH, PIXELS, StageTask, placed, read_images
from grid.stores.artifacts import ArtifactStore
from tests.grid.stages.test_worker import MeanColour

SIDE = 24
PHOTO = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PHOTO)
GREY = np.asarray(PICTURE.convert("L"))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def transparent_palette(path: Path) -> None:
    PICTURE.quantize(16).save(path, transparency=bytes(range(0, 256, 16)))


def deep_colours(path: Path) -> None:
    """16 bits in each of three channels, the lower 8 of them noise."""
    lower = np.random.default_rng(1).integers(0, 256, PHOTO.shape)
    values = (PHOTO.astype(np.uint16) * 256 + lower).astype(">u2")
    path.write_bytes(png(SIDE, SIDE, 16, 2, b"".join(b"\0" + row.tobytes() for row in values)))


def moving(path: Path) -> None:
    others = [PICTURE.transpose(Image.Transpose.ROTATE_90), PICTURE.convert("L")]
    PICTURE.save(path, save_all=True, append_images=others)


def with_alpha(path: Path) -> None:
    picture = PICTURE.convert("L")
    picture.putalpha(Image.fromarray(GREY))
    picture.save(path)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    PICTURE.save(path, exif=exif, quality=100, subsampling=0)


GREYS = np.stack([GREY] * 3, axis=-1)
READ: dict[str, tuple[Callable[[Path], None], np.ndarray, int]] = {  # how it is made, the picture, tolerance
    "deep.tif": (lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path), GREYS, 0),
    "deep.png": (deep_colours, PHOTO, 0),
    "cmyk.jpg": (lambda path: PICTURE.convert("CMYK").save(path, quality=100, subsampling=0), PHOTO, 8),
    "cmyk.tif": (lambda path: PICTURE.convert("CMYK").save(path), PHOTO, 1),
    "rgba.webp": (lambda path: PICTURE.convert("RGBA").save(path, lossless=True), PHOTO, 0),
    "la.png": (with_alpha, GREYS, 0),
    "palette.png": (transparent_palette, np.asarray(PICTURE.quantize(16).convert("RGB")), 0),
    "moving.gif": (moving, np.asarray(PICTURE.quantize(256).convert("RGB")), 0),
    "moving.png": (moving, PHOTO, 0),
    "turned.jpg": (turned, PHOTO, 8),
    "lab.tif": (lambda path: PICTURE.convert("LAB").save(path), PHOTO, 32),
    "ycbcr.tif": (lambda path: PICTURE.convert("YCbCr").save(path), PHOTO, 3),
    "new\nline.png": (PICTURE.save, PHOTO, 0),
    "100%20 'of' \"it\" #1?.png": (PICTURE.save, PHOTO, 0),
    "鳥.png": (PICTURE.save, PHOTO, 0),
}
FAILS: dict[str, tuple[bytes | None, str]] = {
    "empty.png": (b"", "cannot identify"),
    "text.jpg": (b"<html>404</html>", "cannot identify"),
    "bomb.png": (png(60_000, 60_000, 8, 2, b""), "pixels"),
    "wide.png": (png(2**31 - 1, 1, 8, 0, b""), "pixels"),
    "nothing.png": (png(0, 5, 8, 2, b""), ""),
    "half.png": (png(SIDE, SIDE, 8, 2, bytes(SIDE * 40)), ""),
    "x" * 300 + ".png": (None, "too long"),
    "absent.png": (None, "No such file"),
    "folder.png": (None, "directory"),
}


def read(paths: list[str], tmp_path: Path) -> pa.Table:
    nothing = pa.nulls(len(paths), pa.string())
    table = pa.table({IMAGE_ID: np.arange(len(paths)), PATH: paths, MASK: nothing, PART_MASK: nothing})
    task = StageTask(MeanColour(), "k", {}, {}, ArtifactStore(str(tmp_path / "store")), 32)
    return pa.concat_tables(read_images(placed(table, task), {"k": task}))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("name", READ)
def test_the_picture_is_read(tmp_path: Path, name: str) -> None:
    make, expected, tolerance = READ[name]
    make(tmp_path / name)
    table = read([str(tmp_path / name)], tmp_path)
    assert table[ERROR].to_pylist() == [None]
    pixels = np.frombuffer(table[PIXELS][0].as_py(), np.uint8).reshape(SIDE, SIDE, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_fails_alone_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(b"")
    PICTURE.save(tmp_path / "good.png")
    (tmp_path / "folder.png").mkdir()
    for name, (content, _) in FAILS.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    table = read([str(tmp_path / name) for name in ("good.png", *FAILS)], tmp_path)
    good, *errors = table[ERROR].to_pylist()
    assert good is None
    for error, (name, (_, says)) in zip(errors, FAILS.items(), strict=True):
        assert error is not None, name
        assert says in error, (name, error)
        assert "\n" not in error


def test_a_failure_is_told_with_its_file() -> None:
    paths = np.array(["a/1.png", "a/new\nline.png", "b/3.png"], dtype=object)
    ids, texts = np.array([3, 5, 9]), np.array(["test"] * 3, dtype=object)
    index = ImageIndex(Path("/data"), ids, paths, ids, ids, texts, ("a",), ("a",))
    failures = {9: "OSError: truncated", 5: "OSError: truncated", 3: "ValueError: black"}
    told = pipeline._named(failures, index)
    assert told == {
        9: "b/3.png: OSError: truncated",
        5: r"'a/new\nline.png': OSError: truncated",
        3: "a/1.png: ValueError: black",
    }
    assert pipeline._reasons(failures, index) == (
        "2 x OSError: truncated (b/3.png); 1 x ValueError: black (a/1.png)"
    )
