"""Files that are elsewhere: a URL of any file system that fsspec knows stands where a path does.

`place` is the one door: it makes a `RemotePath` of a URL, and a plain path of everything else. Files are read in
pieces, and written here first: they appear whole, at the end, as far as their file system can do that.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from explore_async.errors import ConfigError
from explore_async.settings.local_paths import local_text, path_in, without_secrets

if TYPE_CHECKING:
    _Base = Path
else:  # a RemotePath has the members of a path that are used; it is none, so that nothing takes it for a local one
    _Base = object

_READ_ONLY = {"http", "https"}
_OF_BUCKETS = {"abfs", "adl", "az", "gcs", "gs", "oci", "oss", "s3", "s3a"}
"""Protocols whose paths begin with a bucket, which nothing makes by the way."""
_BUFFER = 1 << 18
_DENIED = {401, 403}
_MISSING = {404, 410}


def place(path: str | os.PathLike[str]) -> Path:
    """The path; of a URL, a `RemotePath`. Raises ConfigError where fsspec or the package for the protocol of the URL
    is missing.
    """
    if isinstance(path, RemotePath):
        return path
    text = os.fspath(path)
    local = path_in(text)
    return RemotePath(*_opened(text), without_secrets(text)) if local is None else Path(local)


def local_place(path: str | os.PathLike[str]) -> Path:
    """The path of what has to be on this machine, as a run directory. Raises ConfigError for a URL of something
    elsewhere.
    """
    return Path(local_text(os.fspath(path)))


def is_remote(path: Path) -> bool:
    return isinstance(path, RemotePath)


class RemotePath(_Base):
    """A path on a file system of fsspec. As text it is its URL, without passwords and without what follows a question
    mark. What a path elsewhere cannot do is a ConfigError that asks for a local one; other faults are OSErrors.
    """

    def __init__(self, system: Any, path: str, shown: str) -> None:
        self._system = system
        self._path = path
        self._shown = shown

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"RemotePath({self._shown!r})"

    def __fspath__(self) -> str:
        raise ConfigError(f"{self}: this has to be on a local disk; copy it there, and give its path")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.__fspath__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and (self._system, self._path) == (other._system, other._path)

    def __hash__(self) -> int:
        return hash(self._path)

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        shown = self._shown if self.is_root else f"{_bare(self._shown)}/"
        return RemotePath(self._system, f"{_bare(self._path)}/{name}", f"{shown}{name}")

    @property
    def is_root(self) -> bool:
        """True for the top of its file system, above all buckets."""
        return self._shown.endswith("://")

    @property
    def name(self) -> str:
        return _bare(self._path).rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        if self.is_root:
            return self
        path, shown = (_bare(text).rpartition("/")[0] for text in (self._path, self._shown))
        return RemotePath(self._system, path, f"{shown.rstrip(':/')}://" if shown.rstrip("/").endswith(":") else shown)

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """Those below the root of its file system."""
        found = []
        above = self.parent
        while not above.is_root:
            found.append(above)
            above = above.parent
        return tuple(found)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def relative_to(self, other: Path, *_more: Any) -> PurePosixPath:  # type: ignore[override]
        return PurePosixPath(_bare(str(self))).relative_to(_bare(str(other)))

    def resolve(self, strict: bool = False) -> RemotePath:  # noqa: ARG002 - as a path has it
        return self

    def samefile(self, other: object) -> bool:
        return self == other

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002 - as a path has it
        """The kind, and the size in bytes; 0 where the file system does not tell it."""
        with remote_errors(self):
            told = self._system.info(self._path)
        kind = stat.S_IFDIR if told["type"] == "directory" else stat.S_IFREG
        return os.stat_result((kind, 0, 0, 1, 0, 0, told.get("size") or 0, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 - as a path has it
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        return self._is(stat.S_ISREG)

    def is_dir(self) -> bool:
        return self._is(stat.S_ISDIR)

    def _is(self, kind: Any) -> bool:
        try:
            return bool(kind(self.stat().st_mode))
        except (FileNotFoundError, PermissionError):  # stores that may not be listed deny what is not there
            return False

    def iterdir(self) -> Generator[RemotePath, None, None]:
        with remote_errors(self):
            names = [entry.rstrip("/").rpartition("/")[2] for entry in self._system.ls(self._path, detail=False)]
        yield from (self / name for name in names)

    def glob(self, pattern: str) -> Iterator[RemotePath]:  # type: ignore[override]
        with remote_errors(self):
            found = self._system.glob(f"{_bare(self._path)}/{pattern}")
        return (self / path.rstrip("/").rpartition("/")[2] for path in found)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Directories are made as files come into them."""

    def rmdir(self) -> None:
        pass

    def unlink(self, missing_ok: bool = False) -> None:
        with remote_errors(self):
            if not missing_ok or self._system.exists(self._path):
                self._system.rm_file(self._path)

    def open(self, mode: str = "r", *_more: Any) -> BufferedReader:  # type: ignore[override]
        """To read bytes: in pieces, or over HTTP from a copy, as a server need not send pieces."""
        if mode != "rb":
            return cast("BufferedReader", self.__fspath__())
        with remote_errors(self):
            if not self._can_write:
                return self._fetched()
            return BufferedReader(_Content(self._system.open(self._path, "rb"), self), _BUFFER)

    def _fetched(self) -> BufferedReader:
        copy = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the reader owns it
        try:
            self._system.get_file(self._path, copy.name)
            return BufferedReader(_Content(copy, self), _BUFFER)
        except BaseException:
            copy.close()
            raise

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return file.read()

    @property
    def _protocols(self) -> set[str]:
        protocol = self._system.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

    @property
    def _can_write(self) -> bool:
        return not self._protocols & _READ_ONLY

    def check_writable(self) -> None:
        """Finds out before long work what would prevent that a file is written here. Raises OSError."""
        if not self._can_write:
            raise OSError(errno.EROFS, "HTTP is for reading; write to a disk or to an object store", str(self))
        if self.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        if self._protocols & _OF_BUCKETS:
            self.exists()
            bucket = (self, *self.parents)[-1]
            if not bucket.exists():
                raise FileNotFoundError(errno.ENOENT, f"there is no bucket {bucket}", str(self))

    def receive(self, file: Path) -> None:
        """Takes the content of a local file, whole or not at all where the file system can do that."""
        with remote_errors(self):
            if not self._protocols & _OF_BUCKETS and not self.parent.is_root:
                self._system.makedirs(_bare(self._path).rpartition("/")[0], exist_ok=True)
            with self._system.transaction:
                self._system.put_file(str(file), self._path)


class _Content(RawIOBase):
    """The bytes of a file that is elsewhere, with its faults as OSErrors. Owns the file."""

    def __init__(self, file: Any, path: RemotePath) -> None:
        self._file = file
        self._of = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with remote_errors(self._of):
            data: bytes = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with remote_errors(self._of):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            super().close()


@contextmanager
def remote_errors(path: RemotePath) -> Iterator[None]:
    """Turns whatever a file system raises into an OSError with the path, and without secrets."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - each file system has errors of its own
        raise _as_os_error(error, path) from None


def _as_os_error(error: Exception, path: RemotePath) -> OSError:
    cause = error.__cause__ or error
    status = getattr(cause, "status", None)
    if isinstance(error, PermissionError) or status in _DENIED:
        return PermissionError(errno.EACCES, "no permission; are the credentials there, and the right ones?", str(path))
    if status in _MISSING or isinstance(cause, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such file or bucket", str(path))
    if isinstance(status, int):
        return OSError(errno.EIO, f"the server answered with HTTP status {status}", str(path))
    if isinstance(error, NotImplementedError):
        return OSError(errno.EOPNOTSUPP, "this file system cannot do that", str(path))
    told = " ".join(without_secrets(str(cause)).split()) or type(cause).__name__
    return OSError(errno.EIO, told[:300], str(path))


def _opened(url: str) -> tuple[Any, str]:
    try:
        import fsspec.core
    except ImportError as error:
        raise ConfigError(f"{without_secrets(url)}: a URL needs fsspec: pip install 'explore-async[remote]'") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError(f"{without_secrets(url)}: its file system is in a package of its own: {error}") from None
    except ValueError:
        raise ConfigError(
            f"{without_secrets(url)}: fsspec knows no such file system, or the URL is not as it wants it"
        ) from None
    except Exception as error:  # noqa: BLE001 - each file system has errors of its own
        raise ConfigError(f"{without_secrets(url)}: {without_secrets(str(error)) or type(error).__name__}") from None
    return system, str(path)


def _bare(url: str) -> str:
    return url.partition("?")[0].rstrip("/")


@contextmanager
def scratch_file(beside: Path) -> Iterator[IO[bytes]]:
    """A file without a name, for reading and writing: on the disk of `beside`, where that is local."""
    with tempfile.TemporaryFile(dir=None if is_remote(beside) else beside.resolve().parent) as file:
        yield file
