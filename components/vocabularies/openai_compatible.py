"""A language model behind OpenAI's chat protocol: OpenAI itself, vLLM, Ollama, llama.cpp and many others."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from random import uniform
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from components.vocabularies.prompts import MAX_TOKENS, TEMPERATURE
from components.vocabularies.provider import ProviderError

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # the same request may succeed later
LONGEST_WAIT = 60.0  # seconds, also where the server asks for more
LARGEST = 2**20  # bytes of an answer that are read
SHOWN = 200  # characters of what a server said
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would turn the question into a GET, or take the key elsewhere."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class OpenAiCompatible:
    """url: the address above `/chat/completions`, such as https://api.openai.com/v1. key: sent as a bearer
    token, never shown; empty: none is sent. timeout: seconds without a byte. attempts: of one question,
    with waits of first_wait seconds, then twice as long each, or what the server asks for.

    Raises ValueError for an address or a key that cannot be used safely.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    attempts: int = 6
    first_wait: float = 1.0

    def __post_init__(self) -> None:
        if any(sign in self.url for sign in "@?#"):
            raise ValueError("the provider's address must hold no user, password or query: it is recorded")
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # its message has what stands in the place of a port, which may be a password
            usable = False
        if not usable or not _visible(self.url):
            raise ValueError("the provider is an address such as https://api.openai.com/v1")
        if not _visible(self.key):
            raise ValueError("the provider's key holds spaces, line ends or letters beyond ASCII")
        if self.key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"the key would go to {parts.hostname} in clear text: use https")

    def answer(self, prompt: str) -> str:
        """The text of the answer. ProviderError if there is none after all attempts, or at once where asking
        again cannot help."""
        for attempt in range(1, self.attempts + 1):
            try:
                return self._ask(prompt)
            except _Transient as error:
                if attempt == self.attempts:
                    tried = f", asked {self.attempts} times" if self.attempts > 1 else ""
                    raise ProviderError(f"{self.url}: {self._clean(error.reason)}{tried}") from None
                wait = error.wait if error.wait is not None else self.first_wait * 2 ** (attempt - 1)
                sleep(min(wait, LONGEST_WAIT) * uniform(1, 1.25))  # not all threads at once
        raise ValueError("attempts must be at least 1")

    def _ask(self, prompt: str) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "User-Agent": "conceptgrid"},
        )
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.build_opener(_Stay).open(request, timeout=self.timeout) as response:
                content = response.read(LARGEST)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            raise _Transient(f"no answer: {getattr(error, 'reason', None) or error!r}") from None
        return _text(content)

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What a status other than 200 means."""
        try:
            said = _said(error.read(LARGEST)) or error.reason
        except (OSError, http.client.HTTPException):
            said = error.reason
        reason = f"answered {error.code}: {said}"
        if error.code in AGAIN:
            return _Transient(reason, _seconds(error.headers.get("Retry-After", "")))
        if error.code in (401, 403):
            reason += " (the key is wrong, or may not use this model)" if self.key else " (no key was given)"
        return ProviderError(f"{self.url}: {self._clean(reason)}")

    def _clean(self, reason: str) -> str:
        """One short line, without the key: servers like to repeat it."""
        hidden = reason.replace(self.key, "***") if self.key else reason
        line = " ".join("".join(c if c.isprintable() else " " for c in hidden).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


class _Transient(Exception):  # noqa: N818  an attempt's outcome, never seen outside
    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


def _visible(text: str) -> bool:
    """Whether it is ASCII without spaces and line ends."""
    return all("!" <= character <= "~" for character in text)


def _text(content: bytes) -> str:
    """The answer in a response of status 200."""
    try:
        choice = json.loads(content)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise _Transient("answered 200 with something that is no chat completion") from None
    if not isinstance(text, str) or not text.strip():
        raise _Transient(f"answered 200 without text (finish_reason {choice.get('finish_reason')!r})")
    return text


def _said(content: bytes) -> str:
    """The message in the body of an error, or the body."""
    try:
        body = json.loads(content)
        error = body["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        return content.decode(errors="replace").strip()


def _seconds(value: str) -> float | None:
    """Retry-After, where it is a number of seconds."""
    return float(value) if value.isdecimal() else None
