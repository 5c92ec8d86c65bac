"""Text that comes from elsewhere, such as an error or a command, as it may be shown and stored."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
LEAST_LENGTH = 4  # of a password that is hidden by its own text: a shorter one occurs in other words
LEAST_LENGTH_OF_VARIABLE = 8  # the same of an environment variable, whose name only suggests a secret
SECRET = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|signature"
    r"|(?:api|access|account|private|secret)[_-]?key)"
)

# userinfo of a URL: to the last @ of the word, as database drivers take a slash in a password
_DATABASE_URL = re.compile(
    r"\b((?!https?:|file:|sqlite:)[a-z][a-z0-9+.-]*://[^:/@\s\"'<>]*:)[^\s\"'<>]*@", re.I
)
_WEB_URL = re.compile(r"\b(https?://(?:[^:/?#@\s\"'<>]*:)?)[^/?#\s\"'<>]*@", re.I)
_IN_QUERY = re.compile(
    r"([?&;][\w.%-]*(?:pass|pwd|secret|token|key|sig|cred|sas|auth)[\w.%-]*=)[^&;#\s\"'<>]*", re.I
)
_BESIDE_ITS_NAME = re.compile(
    rf"((?:^|[\s,;{{(\"'&?_-])[\w.]*{SECRET}[\"']?\s*[=:]\s*)"
    r"(?!(?:true|false|null|none)(?:[\s,;}\]]|$))(\"[^\"]*\"|'[^']*'|[^\s&,;\"'}\]]+)",
    re.I,
)
_SECRET_NAME = re.compile(rf"{SECRET}$", re.I)
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}")
# PWD and OLDPWD are folders
_SECRET_VARIABLE = re.compile(r"(?:PASSW(?:OR)?D|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|_KEY|_PAT)$", re.I)


def presentable(text: str) -> str:
    """`text` without secrets, and with what UTF-8 or a database refuses (half of a surrogate pair, NUL) as an
    escape such as `\\udcff`."""
    return redacted(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def redacted(text: str) -> str:
    """`text` with every password, key and token that it quotes as `***`: in URLs, beside their names, in HTTP
    headers, and wherever one of this process's own arguments or environment variables is repeated."""
    for secret in sorted(_own_secrets() | set(_passwords(text)), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _without_written(text)


def presentable_values(value: Any, *, secret: bool = False) -> Any:
    """`value`, of mappings, lists, texts, numbers, flags and None, with each text made presentable.

    A text or a number under a secret's name, or where `secret` says so, is `***`; flags and None stay.
    """
    if isinstance(value, Mapping):
        return {
            name: presentable_values(v, secret=secret or _names_a_secret(name)) for name, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [presentable_values(item, secret=secret) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if secret:
        return HIDDEN
    return presentable(value) if isinstance(value, str) else value


def _names_a_secret(name: object) -> bool:
    return bool(_SECRET_NAME.search(str(name)))


def has_credentials(uri: str) -> bool:
    """Whether the URI itself holds a password, a key or a token."""
    return _without_written(uri) != uri


def _without_written(text: str) -> str:
    """`text` without what it marks as a secret itself."""
    for pattern in (_DATABASE_URL, _WEB_URL):
        text = pattern.sub(rf"\1{HIDDEN}@", text)
    text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
    text = _BESIDE_ITS_NAME.sub(_hidden_value, text)
    return _HEADER.sub(rf"\1 {HIDDEN}", text)


def _hidden_value(found: re.Match[str]) -> str:
    """The name with its value hidden, so that JSON stays JSON."""
    name = found[1]
    return f'{name}"{HIDDEN}"' if re.search(r'"\s*:\s*$', name) else f"{name}{HIDDEN}"


def _own_secrets() -> set[str]:
    environment = os.environ.items()
    named = (v for name, v in environment if _SECRET_VARIABLE.search(name) and not os.path.exists(v))
    quoted = (secret for value in [*os.environ.values(), *sys.argv] for secret in _passwords(value))
    return {secret for secret in named if len(secret) >= LEAST_LENGTH_OF_VARIABLE} | {
        secret for secret in quoted if len(secret) >= LEAST_LENGTH
    }


def _passwords(url: str) -> Iterator[str]:
    """The password of a URL with any characters, as written and as meant."""
    found = re.match(r"(?:--\w[\w-]*=)?(?!file:|sqlite:)[a-zA-Z][\w+.-]*://[^:/@]*:(.+)@", url, re.S)
    if found:
        yield from (found[1], unquote(found[1]))
