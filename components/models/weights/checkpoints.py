"""Where weights lie. They are safetensors, or files that `torch.load(weights_only=True)` takes."""

import os
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "CONCEPTGRID_WEIGHTS"
OPEN_CLIP = ("open_clip_config.json", "tokenizer.json", "config.json")
FETCH = "python -m grid weights fetch"


class MissingWeights(FileNotFoundError):  # noqa: N818  the outcome has this name in every message
    """A checkpoint was not found; one line names it, where it was looked for, and what gets it."""


def weights_folder() -> Path | None:
    """CONCEPTGRID_WEIGHTS as an absolute path (`~` and relative ones work), or None if it is not set."""
    value = os.environ.get(WEIGHTS)
    return Path(value).expanduser().resolve() if value else None


def find_checkpoint(name: str) -> Path:
    """The file or folder called `name`: as an absolute path, below CONCEPTGRID_WEIGHTS, or below the
    repository's root (what ships with it). MissingWeights otherwise, and for a name with `..` in it."""
    if ".." in PurePath(name).parts or not name:
        raise MissingWeights(f"weights {name!r}: a name is a path below {WEIGHTS}, without `..`")
    folder = weights_folder()
    candidates = list(dict.fromkeys(base / name for base in (folder, ROOT) if base is not None))
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    looked = ", ".join(str(candidate) for candidate in candidates)
    setting = "" if folder else f"set {WEIGHTS} to their folder, then "
    remedy = "" if PurePath(name).is_absolute() else f"; {setting}{FETCH} {name}"
    raise MissingWeights(f"weights {name!r}: not found, looked for {looked}{remedy}")


def checkpoint_files(path: Path) -> list[Path]:
    """The files that make up a checkpoint: what lies in its folder, or itself and, of a CLIP in one file, the
    configs beside it."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    beside = [path.parent / name for name in OPEN_CLIP]
    return [path, *(file for file in beside if file.is_file())] if beside[0].is_file() else [path]
