"""Getting weights: from where the library normally gets them, verified, and whole or not at all."""

import errno
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.data.written import unknown
from components.models.weights.checkpoints import checkpoint_files
from grid.inputs.weights import HUB_NAME, Source, Weights, problem, record_of, sha256, table
from grid.names import UnknownName
from grid.progress import Display

CHUNK = 2**20
TIMEOUT = 60.0  # seconds without a byte
HUB_FILES = (".json", ".txt")  # beside the weights: configuration and tokenizer
HUB_WEIGHTS = "model.safetensors"
CLIP_WEIGHTS = "open_clip_model.safetensors"
CLIP_CONFIG = "open_clip_config.json"


class FetchError(RuntimeError):
    """Weights could not be had; one line says why and what to do."""


@dataclass(frozen=True)
class Remote:
    """One file: where it is, its name in the folder, and what the source says of its size and sum."""

    url: str
    file: str
    bytes: int | None = None
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)


def entry_of(name: str) -> Weights:
    """The table's entry, or one made for a model/pretrained pair of open_clip or a repository of the Hub.

    UnknownName for anything else.
    """
    if name in table():
        return table()[name]
    if not HUB_NAME.fullmatch(name) or ".." in name:
        raise UnknownName(
            f"{unknown(name, table(), 'weights')}; beside these, fetch knows open_clip's model/pretrained "
            "and the Hub's owner/repository"
        )
    kind = "open_clip" if _clip_repository(name) else "hub"
    source = Source.model_validate({"kind": kind, "address": name})
    return Weights(name=name, model=name, source=source, licence="as its page says")


def fetch(name: str, folder: Path, display: Display, again: bool = False) -> Path:
    """The weights called `name` below `folder`, fetched if they are not there, and their sums recorded.

    They appear under their name whole and verified; what a kill leaves is found and used by the next call.
    Raises FetchError, UnknownName.
    """
    entry = entry_of(name)
    target = folder / name
    if target.exists() and not again:
        wrong = problem(name, target, _sums(target))
        if wrong:
            raise FetchError(wrong)
        display.say(f"{name}: is here already: {target}")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        _download(entry, partial, display)
        _verify(entry, partial)
        _put(partial, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            full = f"{name}: the disk of {folder} is full; with room, the same command goes on"
            raise FetchError(full) from error
        raise FetchError(f"{name}: {str(error).splitlines()[0]}") from error
    display.say(f"{name}: fetched to {target}")
    return target


def _download(entry: Weights, partial: Path, display: Display) -> None:
    """The file, or the files of the folder, at `partial`."""
    kind, address = entry.source.kind, entry.source.address
    if kind == "none":
        raise FetchError(f"{entry.name} is published nowhere: {address}")
    if kind in ("url", "torchvision"):
        url = address if kind == "url" else _torchvision_url(address)
        _require_room(entry.name, (entry.bytes or 0) - _size(partial), partial)
        _stream(Remote(url, entry.name, entry.bytes), partial, display)
        return
    remotes = _hub_files(entry)
    partial.mkdir(exist_ok=True)
    missing = [remote for remote in remotes if _size(partial / remote.file) != remote.bytes]
    unfinished_of = {remote: partial / f"{remote.file}.partial" for remote in missing}
    wanted = sum((remote.bytes or 0) - _size(file) for remote, file in unfinished_of.items())
    _require_room(entry.name, wanted, partial)
    for remote, unfinished in unfinished_of.items():
        _stream(remote, unfinished, display)
        _compare(entry.name, unfinished, remote.sha256)
        unfinished.rename(partial / remote.file)
    names = {remote.file for remote in remotes}
    for file in checkpoint_files(partial):  # of another revision, begun before
        if file.name not in names:
            file.unlink()


def _torchvision_url(address: str) -> str:
    from torchvision.models import get_weight

    return str(get_weight(address).url)


def _clip_repository(pair: str) -> tuple[str, str] | None:
    """The Hub's repository and the weights file in it, of a pair that open_clip's registry has."""
    from open_clip.pretrained import get_pretrained_cfg

    model, _, pretrained = pair.partition("/")
    address = get_pretrained_cfg(model, pretrained).get("hf_hub", "")
    repository, _, file = address.rpartition("/")
    safe = f"{file.rpartition('.')[0]}.safetensors" if file else CLIP_WEIGHTS
    return (repository, safe) if repository else None


def _hub_files(entry: Weights) -> list[Remote]:
    """The weights in safetensors, and every configuration and tokenizer file, at the repository's top."""
    repository, weights = entry.source.address, HUB_WEIGHTS
    if entry.source.kind == "open_clip":
        found = _clip_repository(entry.source.address)
        if found is None:
            raise FetchError(f"{entry.name}: open_clip's registry has no {entry.source.address}")
        repository, weights = found
    listed = [r for r in _listing(repository, entry.source.revision) if "/" not in r.file]
    tensors = [r for r in listed if r.file == weights] or [
        r for r in listed if r.file.endswith(".safetensors") and entry.source.kind == "hub"
    ]
    if not tensors:
        raise FetchError(f"{entry.name}: {repository} holds no safetensors, and pickles are not fetched")
    if entry.source.kind == "open_clip":
        if CLIP_CONFIG not in {r.file for r in listed}:
            raise FetchError(f"{entry.name}: {repository} holds no {CLIP_CONFIG}")
        (found_tensors,) = tensors
        tensors = [Remote(**{**vars(found_tensors), "file": CLIP_WEIGHTS})]
    return [*(r for r in listed if r.file.endswith(HUB_FILES)), *tensors]


def _listing(repository: str, revision: str | None) -> list[Remote]:
    """What the Hub says of the files of a repository."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise FetchError(f"the Hub has no {repository}{at}, or it wants a login (hf auth login)") from error
    except Exception as error:  # the client's HTTP library has exceptions of its own
        raise FetchError(_unreachable("the Hugging Face Hub", error)) from error
    return [
        Remote(
            url=hf_hub_url(repository, file.rfilename, revision=info.sha),
            file=file.rfilename,
            bytes=file.size,
            sha256=file.lfs.sha256 if file.lfs else "",
            headers=build_hf_headers(),
        )
        for file in info.siblings or []
    ]


def _unreachable(what: str, error: Exception) -> str:
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    return (
        f"cannot reach {what}: {reason.splitlines()[0]}; without a network, fetch on a machine that has one "
        "and copy the folder"
    )


def _stream(remote: Remote, partial: Path, display: Display) -> None:
    """Writes the file to `partial`, after what an earlier call has left there."""
    size = _size(partial)
    if remote.bytes is not None and size == remote.bytes:
        return
    headers = {**remote.headers, **({"Range": f"bytes={size}-"} if size else {})}
    secret = {k: headers.pop(k) for k in list(headers) if k.lower() == "authorization"}
    request = urllib.request.Request(remote.url, headers=headers)
    for key, value in secret.items():
        request.add_unredirected_header(key, value)  # not for the host that a redirect leads to
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _copy(response, partial, size if response.status == http.client.PARTIAL_CONTENT else 0, display)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()  # what an earlier call left is no beginning of this file
            _stream(remote, partial, display)
            return
        raise FetchError(f"{remote.url}: {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise FetchError(_unreachable(remote.url, error)) from error
    if remote.bytes is not None and partial.stat().st_size < remote.bytes:
        raise FetchError(f"{remote.url}: the connection ended early; the same command goes on")


def _copy(response: http.client.HTTPResponse, partial: Path, start: int, display: Display) -> None:
    total = start + (response.length or 0)
    task = display.task(partial.name.strip(".").removesuffix(".partial"), total // CHUNK, "MiB")
    with partial.open("ab" if start else "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            task.update(file.tell() // CHUNK)
        written = file.tell()
    task.finish(f"{written / CHUNK:.1f} MiB in {task.seconds:.1f} s")
    if written < total:
        raise FetchError(f"{response.url}: the connection ended early; the same command goes on")


def _verify(entry: Weights, partial: Path) -> None:
    """FetchError, and nothing is left, if a file is not the one that the table says."""
    for file, should in entry.sums(partial).items():
        _compare(entry.name, file, should)


def _compare(name: str, file: Path, should: str) -> None:
    found = sha256(file)
    if not found.startswith(should):
        file.unlink()
        raise FetchError(
            f"{name}: sha256 of what came is {found}, should be {should}; it was removed: the address is "
            "wrong, or what lies there has changed"
        )


def _require_room(name: str, wanted: int, partial: Path) -> None:
    free = shutil.disk_usage(partial.parent).free
    if wanted > free:
        room = f"{free // CHUNK} MiB free, {wanted // CHUNK} MiB needed"
        raise FetchError(f"{name}: the disk of {partial.parent} is too full: {room}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sums(path: Path) -> dict[Path, str]:
    return {file: sha256(file) for file in checkpoint_files(path)}


def _put(partial: Path, target: Path) -> None:
    """Renames `partial` to `target`, in place of what is there, and records its sums beside it."""
    record, old = record_of(target), target.with_name(f".{target.name}.old")
    record.unlink(missing_ok=True)
    if old.is_dir():
        shutil.rmtree(old)
    if target.is_dir():
        target.rename(old)
    partial.replace(target)
    lines = [f"{value}  {file.relative_to(target.parent)}\n" for file, value in _sums(target).items()]
    temporary = record.with_name(f".{record.name}.partial")
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(record)
    shutil.rmtree(old, ignore_errors=True)
