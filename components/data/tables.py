"""Tables of text that data sets come with, read strictly: a line that does not fit is named."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.images import DataError

WHOLE = np.iinfo(np.int64)


def read_table(path: Path, columns: tuple[str, ...], **options: Any) -> pd.DataFrame:
    """The table, read by pandas with these options; `names`, for one without a first line of names.

    DataError if there is no file, no row or a column is missing, for bytes that are no UTF-8, for NUL, and
    for a line of more or fewer values than the first; with the line.
    """
    if not path.is_file():
        raise DataError(f"no {path.name} in {path.parent}")
    text = _text(path)
    _same_length(path, text, options.get("sep", ","))
    try:
        table = pd.read_csv(io.StringIO(text), index_col=False, **options)
    except (ValueError, OverflowError) as error:  # pandas' own errors are the former
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}")
    return table


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is no UTF-8; save the table as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL character; save the table as UTF-8")
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def _same_length(path: Path, text: str, separator: str) -> None:
    expected = 0
    lines = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        for values in lines:
            expected = expected or len(values)
            if values and len(values) != expected:
                raise DataError(
                    f"{path}, line {lines.line_num}: {len(values)} values, the first line has {expected}"
                )
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}") from error


def whole_numbers(path: Path, column: pd.Series, name: str) -> NDArray[np.int64]:
    """A column as int64; DataError, with the row and its value, where it holds something else."""
    if not pd.api.types.is_integer_dtype(column) or (column > WHOLE.max).any():
        values = column.tolist()
        row = next((row for row, value in enumerate(values) if not _is_whole(value)), 0)
        raise DataError(f"{path}: {name} must be whole numbers of 64 bits, row {row + 1} has {values[row]!r}")
    return column.to_numpy("int64")


def _is_whole(value: Any) -> bool:
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return False
    return number == float(value) and WHOLE.min <= number <= WHOLE.max
