import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from components.identity import canonical, canonical_json, configuration, digest, rng
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
decimals = st.builds(lambda n, places: n / 10**places, st.integers(-(10**6), 10**6), st.integers(0, 6))


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_its_integer(n):
    assert digest({"k": [n]}) == digest({"k": (float(n),)}) == digest({"k": [np.int64(n)]})


@given(values)
def test_canonical_form_is_json_and_stands_for_itself(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert canonical(canonical(value)) == canonical(value)


@given(st.dictionaries(st.text(), values, min_size=2))
def test_order_of_keys_does_not_matter(value):
    turned = dict(reversed(value.items()))
    assert digest({"outer": [turned]}) == digest({"outer": [value]})


@given(decimals, st.sampled_from([1 - 2e-16, 1 + 3e-16, 1 + 1e-14]))
def test_float_noise_does_not_matter(x, noise):
    assert digest(x * noise) == digest(x)


@given(decimals, decimals)
def test_different_numbers_differ(a, b):
    assume(a != b)
    assert digest({"k": a}) != digest({"k": b})


@pytest.mark.parametrize(("a", "b"), [(0.123456789012, 0.123456789013), (1e-8, 1.00000000001e-8)])
def test_numbers_that_differ_in_the_twelfth_digit_differ(a, b):
    assert digest(a) != digest(b)


def test_types_that_look_alike_differ():
    assert len({digest(value) for value in (1, "1", True, [1], {"1": 1}, None, "None", "")}) == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf])
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="cannot be part of an identity"):
        digest({"a": [1.0, {"b": value}]})


@pytest.mark.parametrize("value", [{1: "a"}, object(), {1, 2}])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError):
        digest([value])


def test_equal_knobs_of_two_kinds_differ():
    @dataclass(frozen=True)
    class Outer:
        inner: object
        several: tuple[object, ...] = field(default=())

    cnn, vit = configuration(Outer(SmallCnn())), configuration(Outer(SmallVit(width=16)))
    assert cnn["inner"] == {"name": "small_cnn", "checkpoint": None, "precision": "auto", "width": 16}
    assert digest(cnn) != digest(vit)
    assert configuration(Outer(1, (SmallCnn(width=3),)))["several"][0]["width"] == 3


def test_streams_are_independent_of_each_other():
    purposes = [(0, "a"), (1, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "a", 1), (0, "a", "1")]
    draws = np.stack([rng(seed, *purpose).standard_normal(4000) for seed, *purpose in purposes])
    correlations = np.corrcoef(draws)[~np.eye(len(draws), dtype=bool)]
    assert abs(correlations).max() < 5 / np.sqrt(4000)


def test_streams_are_the_same_in_every_process():
    code = "from components.identity import rng; print(rng(3, 'split', 'toybirds').integers(2**62))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, again = rng(3, "split", "toybirds"), rng(3, "split", "toybirds")
    rng(4, "split", "toybirds").random(9)
    assert int(other) == first.integers(2**62) == again.integers(2**62)
