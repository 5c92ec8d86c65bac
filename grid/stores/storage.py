"""Files under a storage URI: a local folder, an object store, or anything fsspec can open."""

import json
import re
import uuid
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from grid.free_text import has_credentials, redacted
from grid.stores.home import place

FILE = "file://"
LOCAL = re.compile(r"file:(?://(?:localhost)?|(?!//))(?P<path>/[^?#]*)", re.DOTALL)


class StorageError(OSError):
    """The storage cannot be reached or written; one line says which."""


class Storage:
    """Whole-file reads and writes below one URI. Picklable: the connection opens on first use. StorageError
    for a URI with a password or key in it."""

    def __init__(self, uri: str) -> None:
        self.uri = _uri(uri)
        if not self.uri.startswith(FILE) and has_credentials(self.uri):
            raise StorageError(
                f"storage {redacted(self.uri)}: a key in the URI would be kept beside every result; give it"
                " in the environment instead (for s3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri,)

    @cached_property
    def _location(self) -> tuple[fs.FileSystem, str]:
        if self.uri.startswith(FILE):
            return fs.LocalFileSystem(), unquote(self.uri.removeprefix(FILE))
        try:
            return fs.FileSystem.from_uri(self.uri)  # type: ignore[no-any-return]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return self._by_fsspec()
        except OSError as error:
            raise self._unusable(error) from error

    def _by_fsspec(self) -> tuple[fs.FileSystem, str]:
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(self.uri)
        except Exception as error:  # each file system has its own
            raise self._unusable(error) from error
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path

    def _unusable(self, error: Exception) -> StorageError:
        """The scheme alone is named: what follows may hold a password."""
        scheme, reason = self.uri.partition("://")[0], " ".join(str(error).split()) or type(error).__name__
        return StorageError(
            f"storage {scheme}://…: {reason}; give a folder, or a URI whose file system pyarrow or an "
            "installed package of fsspec opens"
        )

    @property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system behind the URI."""
        return self._location[0]

    def path(self, name: str) -> str:
        """`name` as the file system calls it."""
        return f"{self._location[1].rstrip('/')}/{name}"

    def child(self, name: str) -> str:
        """The URI of `name`."""
        return f"{self.uri.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type != fs.FileType.NotFound)

    def files(self, folder: str, recursive: bool = False) -> list[fs.FileInfo]:
        """The files in a folder, sorted by path; none if it does not exist. Unfinished ones are left out."""
        selector = fs.FileSelector(self.path(folder), recursive=recursive, allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        whole = [f for f in found if f.is_file and not f.base_name.endswith(".tmp")]
        return sorted(whole, key=lambda info: info.path)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted(f.base_name for f in found if f.type == fs.FileType.Directory)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """The file appears whole or not at all: under a temporary name, then renamed (one PUT where
        the store has no rename). StorageError if it cannot be written."""
        path = self.path(name)
        local = isinstance(self.filesystem, fs.LocalFileSystem)
        target = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if local else path
        try:
            if local:
                self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            if local:
                self.filesystem.move(target, path)
        except OSError as error:
            raise StorageError(f"cannot write {self.child(name)}: {error}") from error

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError if there is none."""
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def write_json(self, name: str, value: Any) -> None:
        """A value as JSON; NaN is refused."""
        self.write(name, json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode())

    def read_json(self, name: str) -> Any:
        """The value of a JSON file."""
        return json.loads(self.read(name))

    def write_table(self, name: str, table: pa.Table) -> int:
        """A Parquet file; its size in bytes."""
        content = as_parquet(table)
        self.write(name, content)
        return content.nbytes

    def delete_folder(self, name: str) -> None:
        """Removes a folder and all in it, if it is there."""
        if self.exists(name):
            self.filesystem.delete_dir(self.path(name))

    def delete_file(self, name: str) -> None:
        """Removes a file; FileNotFoundError if there is none."""
        self.filesystem.delete_file(self.path(name))


def as_parquet(table: pa.Table) -> memoryview:
    """A table as the bytes of a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return memoryview(sink.getvalue())


def _uri(text: str) -> str:
    """The URI of a place, of one place always the same. StorageError for a local one that is not clear."""
    if not text.startswith("file:"):
        return text if "://" in text else place(text, "storage").as_uri()
    local = LOCAL.fullmatch(text)
    if local is None:
        raise StorageError(
            f"storage {text}: give the folder's path, or {FILE}/PATH with %3F for `?` and %23 for `#`"
        )
    return place(unquote(local["path"]), "storage").as_uri()
