"""What may be shown and stored of a text from elsewhere."""

from pathlib import Path

import pytest

from grid.free_text import has_credentials, presentable, presentable_values, redacted
from grid.refused import SOMETHING_FAILED, plain_end
from grid.stores.storage import Storage, StorageError

HOLD_A_SECRET = [
    ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
    ("postgresql://me:p/w:x@host:5432/db", "postgresql://me:***@host:5432/db"),
    ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
    ("postgresql://me@host/db?password=pw&x=1", "postgresql://me@host/db?password=***&x=1"),
    ("postgresql://host/db?x=1&sslpassword=pw", "postgresql://host/db?x=1&sslpassword=***"),
    ("run --results postgresql://a:b@c/d --x", "run --results postgresql://a:***@c/d --x"),
    ('["http://u:p@h", "b@c"]', '["http://u:***@h", "b@c"]'),
    ("https://ghp_0123@host/repository", "https://***@host/repository"),
    ("s3://AKIA:sec/ret@bucket/x?region=eu", "s3://AKIA:***@bucket/x?region=eu"),
    ("s3://b?access_key=A&secret_key=S&region=eu", "s3://b?access_key=***&secret_key=***&region=eu"),
    ("abfs://c@a.dfs.core.windows.net/x?sv=1&sig=s%3D", "abfs://c@a.dfs.core.windows.net/x?sv=1&sig=***"),
    ("host=db user=me password='p w' dbname=x", "host=db user=me password=*** dbname=x"),
    ("AWS_SECRET_ACCESS_KEY=abc/def+g failed", "AWS_SECRET_ACCESS_KEY=*** failed"),
    ("token=true-blue-99 x", "token=*** x"),
    ('{"api_key": "abc", "x": 1}', '{"api_key": "***", "x": 1}'),
    ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
]


@pytest.mark.parametrize(("text", "shown"), HOLD_A_SECRET)
def test_a_secret_is_hidden_in_every_form(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert has_credentials(text)
    assert redacted(shown) == shown, "what is stored may be shown again"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////a/b.db",
        "file:///home/a:b@c/x",
        "https://host/path?mail=a@b",
        "max_tokens: 200, epochs: 3",
        '{"class_token": false, "pool": null, "secret": null}',
        'password authentication failed for user "me"',
        "KeyError: 'secret'",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert presentable(text) == text
    assert not has_credentials(text)


def test_values_are_hidden_before_they_are_written_so_that_json_stays_json() -> None:
    values = {
        "class_token": False,
        "pool": None,
        "max_tokens": 200,
        "token": "abc",
        "pin": {"api_key": [1234, "x", True, None]},
        "command": ["run --results postgresql://me:pw@host/db", "half \udcff"],
    }
    assert presentable_values(values) == {
        "class_token": False,
        "pool": None,
        "max_tokens": 200,
        "token": "***",
        "pin": {"api_key": ["***", "***", True, None]},
        "command": ["run --results postgresql://me:***@host/db", "half \\udcff"],
    }


@pytest.mark.parametrize("password", ["two words", 'quo"te', "a,b;c", "per%20cent"])
def test_a_password_of_any_characters_is_hidden_wherever_it_is_repeated(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCEPTGRID_RESULTS_URL", f"postgresql://me:{password}@host/db")
    meant = password.replace("%20", " ")
    for said in (f"no access with {password}", f"tried {meant}!", f"postgresql://me:{password}@host/db"):
        assert password not in redacted(said)
        assert meant not in redacted(said)


def test_a_key_that_the_environment_holds_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-looking")
    assert redacted("signature of wJalrXUtnFEMI is false-looking") == "signature of *** is false-looking"


def test_a_folder_that_the_environment_names_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PWD", "OLDPWD", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, str(tmp_path))
    assert presentable(f"no file {tmp_path}/x") == f"no file {tmp_path}/x"


def test_a_defect_is_a_traceback_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, plain_end():
        raise RuntimeError("cannot open postgresql://me:s3cret@host/db")
    printed = capsys.readouterr().err
    assert caught.value.code == SOMETHING_FAILED
    assert "Traceback" in printed
    assert "RuntimeError: cannot open postgresql://me:***@host/db" in printed


@pytest.mark.parametrize(
    "uri", ["s3://AKIA:s3cret@bucket/x", "s3://bucket/x?secret_key=s3cret", "ftp://u:s3cret@h/x"]
)
def test_a_storage_with_a_key_in_its_uri_is_refused_as_it_would_be_in_every_result(uri: str) -> None:
    with pytest.raises(StorageError, match="in the environment instead") as caught:
        Storage(uri)
    assert "s3cret" not in str(caught.value)


def test_a_folder_of_any_name_is_no_secret(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "token=a1 b:c@d"))
    storage.write("x", b"1")
    assert (tmp_path / "token=a1 b:c@d" / "x").read_bytes() == b"1"
