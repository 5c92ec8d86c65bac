"""Names in MLflow: accepted by its own validation, and as many as there were."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils import validation

from grid.tracking.keys import KEY_LENGTH, escaped, key, metric_key, shortened

pytestmark = pytest.mark.slow

text = st.text(st.sampled_from("ab/._-|:,x7C\0\n ä\ud800H") | st.characters(), max_size=12)
names = text | st.sampled_from(
    ["..", ".", "..x", "...", "", "a/../b", "curve", "all", "_x7C_", "_x_", "_x5F_x7C_", "a" * 300]
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    row: dict[str, Any] = {name: draw(names) for name in ("split", "selection", "name", "group_name")}
    return {**row, "step": draw(st.sampled_from([None, 1]))}


@given(rows(), rows())
def test_distinct_metrics_have_distinct_keys_that_mlflow_takes(a: dict[str, Any], b: dict[str, Any]) -> None:
    for row in (a, b):
        validation._validate_metric(metric_key(row), 0.5, 0, 0)
    assert (metric_key(a) == metric_key(b)) == (a == b)


@given(names, names)
def test_distinct_params_have_distinct_keys_that_mlflow_takes(a: str, b: str) -> None:
    for name in (a, b):
        validation._validate_param(key(name), "value")
    assert (key(a) == key(b)) == (a == b)


@given(st.text(st.sampled_from("ab"), max_size=8), st.text(st.sampled_from("ab"), max_size=8))
def test_what_is_shortened_stays_distinct_and_is_no_other_text(a: str, b: str) -> None:
    short = shortened("a" * 300 + a, KEY_LENGTH)
    assert len(short) == KEY_LENGTH
    assert (short == shortened("a" * 300 + b, KEY_LENGTH)) == (a == b)
    assert shortened(short, KEY_LENGTH) != short


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("landbird on water", "landbird on water"),
        ("worst_group_accuracy", "worst_group_accuracy"),
        ("a|b", "a_x7C_b"),
        ("_x7C_", "_x5F_x7C_"),
        ("..", "_x2E_."),
        ("a..b", "a..b"),
        ("a/b", "a_x2F_b"),
    ],
)
def test_names_stay_readable(name: str, read: str) -> None:
    assert escaped(name) == read
