"""What tests of every folder share: real data where it is given, and a CLIP of a few kilobytes."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TEST_DATA = "CONCEPTGRID_TEST_DATA"
CLIP_SIDE = 64

os.environ.pop("RAY_ADDRESS", None)  # tests start clusters of their own, and join nobody else's

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def test_data(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """`test_data("waterpets")`: the folder or file so named; archives are unpacked once, into the cache."""
    folder = os.environ.get(TEST_DATA)
    if not folder:
        pytest.skip(f"{TEST_DATA} is not set")

    def find(name: str) -> Path:
        archive = Path(folder) / f"{name}.tar"
        return _unpacked(archive, request.config) if archive.is_file() else Path(folder) / name

    return find


def _unpacked(archive: Path, config: pytest.Config) -> Path:
    assert config.cache is not None
    status = archive.stat()
    cache = config.cache.mkdir("conceptgrid-data")
    target = cache / f"{archive.stem}-{status.st_size}-{int(status.st_mtime)}"
    if not target.is_dir():
        temporary = cache / f"{target.name}.{os.getpid()}"
        with tarfile.open(archive) as file:
            if hasattr(tarfile, "data_filter"):  # before 3.11.4 there are none; the sets are ours
                file.extraction_filter = staticmethod(tarfile.data_filter)
            file.extractall(temporary)
        try:
            temporary.rename(target)
        except OSError:  # another of the test processes was faster
            shutil.rmtree(temporary)
    return target / archive.stem


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[str]:
    """The DevTools address of a headless browser's one empty page."""
    from tests.browser.page import headless

    with headless(tmp_path / "profile") as address:
        yield address


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in open_clip's form: random weights of a fixed seed, unusual statistics."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "test_resnet",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": CLIP_SIDE,
        },
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic"}
    configs, folder = tmp_path_factory.mktemp("configs"), tmp_path_factory.mktemp("clip")
    (configs / "conceptgrid_tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(configs)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("conceptgrid_tiny")
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    content = {"model_cfg": config, "preprocess_cfg": {**preprocess, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder
