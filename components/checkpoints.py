"""Where weights lie. They are safetensors, or files that `torch.load(weights_only=True)` takes."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "CONCEPTGRID_WEIGHTS"


class MissingWeights(FileNotFoundError):  # noqa: N818  the outcome has this name in every message
    """A checkpoint was not found; the message says where it was looked for."""


def find_checkpoint(name: str) -> Path:
    """The file or folder called `name`: as an absolute path, below CONCEPTGRID_WEIGHTS, or below the
    repository's root (what ships with it). MissingWeights otherwise."""
    bases = [Path(os.environ[WEIGHTS])] if os.environ.get(WEIGHTS) else []
    candidates = [base / name for base in [*bases, ROOT]]
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise MissingWeights(f"no weights {name!r}: looked for {looked}; set {WEIGHTS} to their folder")


def checkpoint_files(path: Path) -> list[Path]:
    """The files that make up a checkpoint: itself, or what lies in its folder."""
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
