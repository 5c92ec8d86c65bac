"""Numbers, truth values and texts, told apart: what YAML writes alike is not alike."""

import re
import typing
from typing import Any, Literal

EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


def of_its_kind(hint: Any, value: Any) -> Any:
    """The value for a field of this type, in which a number that YAML calls a text (`1e-3`) is one.

    ValueError for a truth value, a number or a text where the field holds another of these: `yes` would pass
    as 1, 1 as true, "5" as 5.
    """
    kinds, words = kinds_of(hint)
    if isinstance(value, list):
        return [of_its_kind(hint, item) for item in value]
    number, text = kinds & {int, float}, isinstance(value, str) and str not in kinds and value not in words
    if number and text and EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, bool) and bool not in kinds:
        raise ValueError("true and false have no meaning here")
    a_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kinds and (text or (a_number and not number)):
        allowed = [*words, *(["true or false"] if bool in kinds else []), *(["a number"] if number else [])]
        raise ValueError(f"expected {' or '.join(allowed or ['a text'])}")
    return value


def kinds_of(hint: Any) -> tuple[set[type[Any]], list[str]]:
    """Which of bool, int, float and str a plain field holds, in a list too, and its words."""
    if hint in (bool, int, float, str):
        return {hint}, []
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return {type(one) for one in arguments} - {str, type(None)}, [o for o in arguments if type(o) is str]
    found = [kinds_of(argument) for argument in arguments if argument is not ...]
    return {kind for kinds, _ in found for kind in kinds}, [word for _, words in found for word in words]
