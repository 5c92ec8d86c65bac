"""What people write has one meaning, or is refused in one line with file and place."""

import pytest

from components.data.written import TextError, parse_yaml, read_text, read_yaml


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfname: x\r\n")
    assert read_yaml(tmp_path / "a.yaml") == {"name": "x"}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("a: ä\nb: ö\n".encode("latin-1"), 1),
        (b"a: 1\nb: 2\nc: \xff\n", 3),
        ("a: 1\n".encode("utf-16"), 1),
        ("a: 1\n".encode("utf-16-le"), 1),
        ("a: 1\n".encode("utf-32-be"), 1),
        (b"a: 1\nb: \0\n", 2),
    ],
)
def test_what_is_no_utf8_names_file_and_line(tmp_path, raw, line):
    path = tmp_path / "spec.yaml"
    path.write_bytes(raw)
    for read in (read_text, read_yaml):
        with pytest.raises(TextError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, line {line}: ")
        assert str(caught.value).endswith("save the file as UTF-8")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(TextError, match="directory"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 3\n", "a: 1\nb: {c: 1,\n c: 1}\na: 1", "a: 1\n\n'a': 2", "- 1\n- a: &x 1\n  a: *x\n"],
)
def test_a_key_twice_names_both_lines(text):
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip(" -'").startswith("a")]
    with pytest.raises(
        TextError, match=f"key '[ac]' stands twice, in lines {lines[0]} and {lines[-1]}|lines 2 and 3"
    ):
        parse_yaml(text, "o.yaml")


def test_a_merged_mapping_may_be_changed_and_is_not_shared():
    text = "base: &base {recipe: {epochs: 1}, seed: 0}\nplain: *base\nmerged: {<<: *base, seed: 1}\nlist: [*base, *base]\n"
    content = parse_yaml(text, "o.yaml")
    content["plain"]["recipe"]["epochs"] = 2
    content["merged"]["recipe"]["epochs"] = 3
    content["list"][1]["recipe"]["epochs"] = 4
    assert content["base"] == {"recipe": {"epochs": 1}, "seed": 0}
    assert content["plain"] == {"recipe": {"epochs": 2}, "seed": 0}
    assert content["merged"] == {"recipe": {"epochs": 3}, "seed": 1}
    assert [one["recipe"]["epochs"] for one in content["list"]] == [1, 4]


def test_numbers_without_a_dot_or_a_sign_are_numbers():
    text = "[1e-3, 1E3, -2.5e4, .5e1, 1.e+2, 1.0e-05, '1e-3', 1e, e3, 1e-3x, v1e3]"
    assert parse_yaml(text, "o") == [
        1e-3, 1000.0, -25000.0, 5.0, 100.0, 1e-5, "1e-3", "1e", "e3", "1e-3x", "v1e3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "o.yaml, line 1: not YAML"),
        ("a: 1\n1: 2", "line 2: the key '1' is not text"),
        ("yes: 1", "the key 'yes' is not text"),
        ("? [a]\n: 1", "line 1: the key .* is not text"),
        ("a: &x [*x]", "line 1: not YAML: found unconstructable recursive node"),
        ("[" * 3000, "nested too deeply"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: 2024-13-45", "not YAML: month"),
        ("a: !!bool maybe", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!python/object:os.system {}", "line 1: not YAML"),
        ("a: 1\n---\na: 2\n", "another document"),
        ("a: \a", "not YAML"),
        ('a: 1\nb: "x\\ud800"', "line 2: '.ud800' in a text"),
        ('"a\\0": 1', "line 1: '.x00' in a text"),
    ],
)
def test_anything_else_is_one_line(text, says):
    with pytest.raises(TextError, match=says) as caught:
        parse_yaml(text, "o.yaml")
    assert str(caught.value).startswith("o.yaml")
    assert "\n" not in str(caught.value)
