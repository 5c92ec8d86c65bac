"""Weights into modules: from files without code in them, and all of them or none."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SHOWN = 3  # names of tensors in a message


class WrongWeights(RuntimeError):  # noqa: N818  the outcome has this name in every message
    """A checkpoint cannot be read, holds code, or is of another architecture; one line says which."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors, or from a file that `torch.load(weights_only=True)` takes: as it is, or,
    as training scripts save it, under `state_dict` and with `module.` before every name.

    Raises WrongWeights for a broken file and for a pickle with anything but tensors in it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WrongWeights(
            f"weights {path}: refused, the file holds more than tensors or is broken"
        ) from error
    except Exception as error:  # safetensors and zip readers have exceptions of their own
        raise WrongWeights(f"weights {path}: broken file: {_first(error)}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = {str(name).removeprefix("module."): value for name, value in state["state_dict"].items()}
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WrongWeights(f"weights {path}: not a state dict: it holds {type(state).__name__}")
    return dict(state)


def set_state(module: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Sets all parameters and buffers; WrongWeights names what is missing, unknown or of another shape."""
    own = module.state_dict()
    wrong = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [n for n in own if n in state and own[n].shape != state[n].shape],
    }
    if any(wrong.values()):
        raise WrongWeights(f"weights {path}: not of this architecture: {_counted(wrong)}")
    module.load_state_dict(state)


def load_folder(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A transformers model of class `model` from a folder that `save_pretrained` wrote, in evaluation mode.

    Nothing is fetched and no pickle is read. Raises WrongWeights where the folder is of another
    architecture: transformers itself would fill what is missing with random numbers and warn.
    """
    from transformers.utils.logging import disable_progress_bar, get_verbosity, set_verbosity

    disable_progress_bar()
    verbosity = get_verbosity()
    set_verbosity(logging.CRITICAL)  # its report on a wrong folder has a hundred lines
    try:
        loaded, report = model.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # each format's reader has its own
        raise WrongWeights(f"weights {folder}: {_first(error)}") from error
    finally:
        set_verbosity(verbosity)
    wrong = {
        "missing": [str(name) for name in report["missing_keys"]],
        "unknown": [str(name) for name in report["unexpected_keys"]],
        "of another shape": [str(name) for name in report["mismatched_keys"]],
    }
    if any(wrong.values()):
        raise WrongWeights(f"weights {folder}: not of {model.__name__}: {_counted(wrong)}")
    return loaded.eval()


def _first(error: Exception) -> str:
    """The first sentence: torch goes on with advice to allow code, transformers with a page."""
    return (str(error) or repr(error)).splitlines()[0].partition(". ")[0]


def _counted(wrong: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{len(names)} tensors {how} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for how, names in wrong.items()
        if names
    )
