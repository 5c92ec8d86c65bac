"""Photographs, a small CLIP, and no network."""

import socket

import pytest

from components.data.images import decode
from components.models.clip.clip import Clip
from tests.components.models.clip.saved_clip import opened, saved


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"network: {arguments}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def photographs(test_data):
    """Real ones, of many sizes, landscape and portrait."""
    folders = [test_data("imagenet-mini") / "images", test_data("seg-mini") / "images"]
    images = [decode(path) for folder in folders for path in sorted(folder.iterdir())[:6]]
    assert len({image.shape[0] > image.shape[1] for image in images}) == 2
    return images


@pytest.fixture(scope="module")
def direct(tiny_clip):
    return opened(tiny_clip)


@pytest.fixture(scope="module")
def model(tiny_clip):
    return Clip(checkpoint=str(tiny_clip)).load("cpu")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("vit") / "clip")
