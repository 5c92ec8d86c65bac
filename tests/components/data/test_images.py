import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.images import SPLITS, DataError, ImageIndex, blocks, decode, inside, resized, stored_in

PHOTO = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG of which only the header is sure to be right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data


def test_every_mode_becomes_rgb(tmp_path):
    picture = Image.fromarray(PHOTO)
    grey, palette = picture.convert("L"), picture.quantize(16)
    transparent = picture.copy()
    transparent.putalpha(128)
    np.testing.assert_array_equal(decode(saved(tmp_path, picture)), PHOTO)
    np.testing.assert_array_equal(decode(saved(tmp_path, transparent)), PHOTO)
    np.testing.assert_array_equal(decode(saved(tmp_path, grey)), np.stack([np.asarray(grey)] * 3, axis=-1))
    np.testing.assert_array_equal(decode(saved(tmp_path, palette)), np.asarray(palette.convert("RGB")))
    bits = saved(tmp_path, Image.fromarray(PHOTO[..., 0] > 128))
    np.testing.assert_array_equal(decode(bits)[..., 1], 255 * (PHOTO[..., 0] > 128))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_upper_half(tmp_path, name):
    deep = np.random.default_rng(1).integers(0, 65536, (9, 7)).astype(np.uint16)
    expected = np.stack([deep >> 8] * 3, axis=-1)
    np.testing.assert_array_equal(decode(saved(tmp_path, Image.fromarray(deep), name)), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_range_are_refused(tmp_path, dtype):
    path = saved(tmp_path, Image.fromarray(np.ones((5, 5), dtype)), "a.tif")
    with pytest.raises(ValueError, match="no defined range"):
        decode(path)


def test_cmyk_is_converted_and_one_pixel_is_an_image(tmp_path):
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(decode(saved(tmp_path, red, "a.jpg"))[4, 4].astype(int) - [255, 0, 0]).max() < 10
    assert decode(saved(tmp_path, Image.fromarray(PHOTO[:1, :1]))).shape == (1, 1, 3)


def test_pixels_stay_where_masks_expect_them_whatever_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to view"
    path = saved(tmp_path, Image.fromarray(PHOTO), exif=exif)
    with Image.open(path) as stored:
        assert stored.getexif()[0x0112] == 6
    np.testing.assert_array_equal(decode(path), PHOTO)


def test_a_file_cut_short_cannot_be_read(tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp"):
        path = saved(tmp_path, Image.fromarray(PHOTO), name)
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(OSError, match=r"truncated|broken|decod"):
            decode(path)
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent.png")


def test_broken_chunks_are_an_unreadable_file(tmp_path):
    """Pillow raises SyntaxError here, which would end a pipeline instead of one row."""
    path = tmp_path / "a.png"
    rows = zlib.compress(b"\0" * 17 * 16)
    idat = struct.pack(">I", 4) + b"IDAT" + rows[:4] + struct.pack(">I", zlib.crc32(b"IDAT" + rows[:4]))
    path.write_bytes(png(16, 16, idat + b"\x00\x00\x00\x04\xff\xfe\xfd\xfc" + b"\0" * 8))
    with Image.open(path) as image, pytest.raises(SyntaxError):
        image.load()
    with pytest.raises(OSError, match="broken"):
        decode(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 12_000, 40_000])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "a.png"
    path.write_bytes(png(side, side, b"\0\0\0\4IDAT" + b"\0" * 8))
    with pytest.raises(ValueError, match="pixels"):
        decode(path)


def test_resizing_is_pillows_and_leaves_what_fits_alone():
    np.testing.assert_array_equal(resized(PHOTO[:17, :17], 17), PHOTO[:17, :17])
    flat = resized(np.full((40, 30, 3), 77, np.uint8), 8)
    assert flat.shape == (8, 8, 3)
    assert (flat == 77).all()
    halves = np.repeat(np.array([0, 200], np.uint8), 32)[None, :, None].repeat(64, 0).repeat(3, 2)
    np.testing.assert_array_equal(resized(halves, 2)[:, :, 0] // 100, [[0, 1], [0, 1]])


def test_real_photographs_against_pillow(test_data):
    for path in sorted((test_data("imagenet-mini") / "images").iterdir())[:5]:
        direct = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
        np.testing.assert_array_equal(decode(path), direct)


@pytest.mark.parametrize("path", ["/etc/passwd", "../b.png", "x/../../b.png", "link/b.png"])
def test_paths_that_leave_the_root_are_refused(tmp_path, path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="outside"):
        inside(root, path)
    assert inside(root, "x/../a.png") == "x/../a.png"


def index_of(n_per_group: dict[tuple[str, int], int]) -> ImageIndex:
    rows = [key for key, count in n_per_group.items() for _ in range(count)]
    n = len(rows)
    return ImageIndex(
        Path("/data"),
        np.arange(n) * 2,
        np.array([f"images/c.{i}/a.{i}.jpg" for i in range(n)], object),
        np.zeros(n, np.int64),
        np.array([group for _, group in rows]),
        np.array([split for split, _ in rows], object),
        ("one",),
        ("a", "b"),
    )


def test_the_images_of_each_group_are_counted():
    told = {("train", 0): 7, ("train", 1): 2, ("test", 1): 3}
    sizes = index_of(told).group_sizes()
    names = index_of(told).group_names
    assert sizes == {"test": {names[1]: 3}, "train": {names[0]: 7, names[1]: 2}}


def test_a_limited_index_keeps_the_groups_shares():
    index = index_of({("train", 0): 90, ("train", 1): 10, ("val", 0): 4, ("test", 0): 30, ("test", 1): 30})
    part = index.limited(20)
    count = {s: [int(((part.splits == s) & (part.groups == g)).sum()) for g in (0, 1)] for s in SPLITS}
    assert count == {"train": [18, 2], "val": [4, 0], "test": [10, 10]}
    np.testing.assert_array_equal(part.image_ids, index.limited(20).image_ids)
    assert (np.diff(part.image_ids) > 0).all()
    assert len(index.limited(1000)) == len(index)


def test_masks_lie_beside_images():
    index = index_of({("train", 0): 2})
    assert index.beside("masks/{stem}.png", 1) == Path("/data/masks/c.1/a.1.png")
    assert index.beside(None, 1) is None
    assert index.path(1) == Path("/data/images/c.1/a.1.jpg")


def test_blocks_cut_everything_once():
    assert [list(range(7))[block] for block in blocks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(blocks(0, 3)) == []


def test_a_row_of_an_array_is_an_image(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    np.save(tmp_path / "fog.npy", images)
    for row in range(3):
        found = decode(tmp_path / f"fog.npy#{row}")
        np.testing.assert_array_equal(found, images[row])
        assert found.flags.writeable
    assert stored_in(tmp_path / "fog.npy#12") == (tmp_path / "fog.npy", 12)
    for name in ("fog.npy", "a#1.png", "a.npy#x", "b.npy#1.png"):
        assert stored_in(tmp_path / name) == (tmp_path / name, None)


def test_what_is_no_row_of_images_cannot_be_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.npy has 3 images, none in row 3"):
        decode(tmp_path / "a.npy#3")
    for array in (np.zeros((3, 5, 4, 3)), np.zeros((3, 5, 4), np.uint8), np.zeros((3, 5, 4, 4), np.uint8)):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match="expected uint8"):
            decode(tmp_path / "a.npy#0")
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        decode(tmp_path / "a.npy#0")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(OSError, match="broken array"):
        decode(tmp_path / "a.npy#0")
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "b.npy#0")
