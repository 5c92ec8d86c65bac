"""Masks of objects and of parts as data sets store them. H W pixels."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, MinLen
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Strict, model_validator

IGNORE = 255  # pixels that count nowhere
MAJORITY = 127.5  # of a grey mask, white where all annotators agree
SHOWN = 8  # values that a message names

Value = Annotated[int, Strict(), Ge(0), Le(65535)]
Integers = NDArray[Any]


class AmbiguousMask(ValueError):  # noqa: N818  reads as the message does
    """What a mask's values mean is not known; the message names the file, the values, and what tells it."""


class MaskValues(BaseModel):
    """What a card says of its masks' values: those of the object, and those that count nowhere. All others
    are the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object: Annotated[tuple[Value, ...], MinLen(1)]
    ignore: tuple[Value, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> "MaskValues":
        both = sorted(set(self.object) & set(self.ignore))
        if both:
            raise ValueError(f"{both[0]} is among the values of object and of ignore")
        return self


Meaning = MaskValues | Literal["soft"] | None  # of a card's `mask_values`


def read_mask(path: Path, meaning: Meaning = None) -> NDArray[np.uint8]:
    """uint8 (H, W): 1 the object, 0 the rest, IGNORE what counts nowhere.

    meaning: what the card says. "soft": greys say how sure it is, as of CUB-200-2011 which share of the
    annotators saw the object there, and half is enough. Without it, 0 and 1 (and IGNORE) are these values
    themselves, and of 0 and one bright value the latter is the object.
    OSError if the file cannot be read, AmbiguousMask where its values may mean several things.
    """
    return meant(stored_values(path)[0], path.name, meaning)


def meant(values: Integers, name: str, meaning: Meaning) -> NDArray[np.uint8]:
    """`read_mask` of the values (H, W) that the file of this name stores."""
    if isinstance(meaning, MaskValues):
        listed = {*meaning.object, *meaning.ignore}
        if values.dtype == bool:  # 1 bit is 0 and 1, or black and white, as the card has it
            values = values.astype(np.uint8) * (1 if 1 in listed else 255)
        mask = np.isin(values, meaning.object).astype(np.uint8)
        mask[np.isin(values, meaning.ignore)] = IGNORE
        return mask
    if values.dtype == bool:
        return values.astype(np.uint8)
    found = distinct(values)
    if found <= {0, 1, IGNORE} and 1 in found:
        return values.astype(np.uint8)
    bright = found - {0}
    if meaning == "soft" or not bright or (len(bright) == 1 and max(bright) > MAJORITY):
        return (values > MAJORITY).astype(np.uint8)
    raise AmbiguousMask(
        f"mask {name} has the values {shown(found)}: say in the card what they mean, mask_values: "
        "{object: [..], ignore: [..]}, or mask_values: soft if more than half of white is the object"
    )


def read_parts(path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W): 0 nothing, k the k-th of the card's parts, IGNORE what counts nowhere. OSError if the
    file cannot be read, AmbiguousMask where its values are no numbers of parts."""
    return parts(stored_values(path)[0], path.name)


def parts(values: Integers, name: str) -> NDArray[np.uint8]:
    """`read_parts` of the values (H, W) that the file of this name stores."""
    if values.max(initial=0) > IGNORE:
        raise AmbiguousMask(
            f"mask of parts {name} has the values {shown(distinct(values))}, up to 255 are known"
        )
    return values.astype(np.uint8)


def stored_values(path: Path) -> tuple[Integers, bool]:
    """The values (H, W) of a mask, bool of 1 bit, else whole numbers from 0; and whether these are the very
    numbers in the file: a palette of greys stands for the greys, one of colours for its numbers, and a grey
    picture that was saved in colours or with an opaque alpha channel is the grey one.

    OSError if the file cannot be read, AmbiguousMask for colours, and for pixels that are transparent.
    """
    try:
        with Image.open(path) as file:
            file.load()
            return _values(file, path)
    except (OSError, ValueError):
        raise
    except Exception as error:  # a broken file makes Pillow's plugins raise SyntaxError and others
        raise OSError(f"broken mask file {path.name}: {error}") from error


def fit(mask: Integers, image: Path) -> None:
    """ValueError if the mask (H, W) has another size than the image in this file has as it is stored."""
    try:
        with Image.open(image) as file:
            size = (file.height, file.width)
    except Exception:
        return
    if mask.shape != size:
        raise ValueError(f"mask {mask.shape} does not fit image {size}")


def _values(image: Image.Image, path: Path) -> tuple[Integers, bool]:
    if "transparency" in image.info or image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode == "P":
        return _of_palette(image)
    values = np.asarray(image)
    if values.ndim == 2:
        if values.dtype != bool and ((values < 0) | (values != np.floor(values))).any():
            raise AmbiguousMask(f"mask {path.name}: values of mode {image.mode} are no whole numbers from 0")
        return (values.astype(np.int64) if values.dtype.kind == "f" else values), True
    if image.mode in {"LA", "RGBA"}:
        if (values[..., -1] < 255).any():
            raise AmbiguousMask(f"mask {path.name} is transparent in part: save it in grey, without alpha")
        values = values[..., :-1]
    elif image.mode != "RGB":
        raise AmbiguousMask(f"mask {path.name} is of mode {image.mode}: save it in grey")
    if (values != values[..., :1]).any():
        colours = np.unique(values.reshape(-1, 3), axis=0)
        raise AmbiguousMask(
            f"mask {path.name} is in colours, {shown({tuple(map(int, c)) for c in colours})}: save a number "
            "for each (a grey picture or a palette) and say in the card what they mean, mask_values: "
            "{object: [..], ignore: [..]}"
        )
    return values[..., 0], False


def _of_palette(image: Image.Image) -> tuple[Integers, bool]:
    numbers = np.asarray(image)
    used = np.flatnonzero(np.bincount(numbers.ravel(), minlength=256))
    palette = np.zeros((256, 3), np.int64)
    given = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
    palette[: len(given)] = given
    colours = palette[used]
    is_black = colours.max(axis=1) == 0
    if (colours == colours[:, :1]).all() and len(np.unique(colours[:, 0])) == len(used):
        values = palette[:, 0].astype(np.uint8)[numbers]
    elif used.tolist() == [0, 1] and is_black.sum() == 1:
        values = (~is_black).astype(np.uint8)[numbers]
    else:  # colours that show class numbers
        values = numbers
    return values, bool((values == numbers).all())


def distinct(values: Integers) -> set[int]:
    """The values that occur."""
    if values.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist())
    return {int(value) for value in np.unique(values)}


def shown(values: set[Any]) -> str:
    """The values for a message, the first of many."""
    first = ", ".join(map(str, sorted(values)[:SHOWN]))
    return first if len(values) <= SHOWN else f"{first}, … ({len(values)} of them)"
