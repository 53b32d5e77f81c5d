"""Trace files as bytes: gzip told by content, empty and oversized files refused before they fill the memory."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from simulator.errors import ServelabError, nearest

MAX_TRACE_BYTES = 4 * 2**30  # of text, unpacked; some 80 million rows of an Azure trace, held in 10 GB while read
UNREADABLE = (ValueError, OSError, EOFError, zlib.error)  # what a reader raises for a file that is damaged


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a damaged file raises becomes a ServelabError that names it."""
    try:
        yield
    except ServelabError:
        raise
    except UNREADABLE as error:
        raise ServelabError(f"{path}: cannot be read as a trace: {error}") from None


def check_file(path: Path) -> None:
    """Raise ServelabError for a file that is not there (with the nearest name), empty, or too large to hold."""
    path = Path(path)
    if not path.is_file():
        here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ServelabError(f"{path}: no such trace file{nearest(path.name, here)}")
    size = path.stat().st_size
    if size == 0:
        raise ServelabError(f"{path}: the trace is empty (0 bytes)")
    if size > MAX_TRACE_BYTES:
        raise _too_large(path, f"is {_gib(size)} GiB")


def open_trace(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where it is gzip; reading more than `MAX_TRACE_BYTES` raises ServelabError."""
    path = Path(path)
    check_file(path)
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        return open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(_Limited(path), buffer_size=1 << 20))


class _Limited(io.RawIOBase):
    """A gzip file that ends with an error where it unpacks to more than the limit."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MAX_TRACE_BYTES
        self._file = gzip.open(path, "rb")  # noqa: SIM115 (closed by close)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise _too_large(self._path, f"unpacks to more than {_gib(MAX_TRACE_BYTES)} GiB")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _gib(size: int) -> str:
    return f"{size / 2**30:.2g}"


def _too_large(path: Path, what: str) -> ServelabError:
    return ServelabError(
        f"{path}: {what}, at most {_gib(MAX_TRACE_BYTES)} GiB of text can be held; cut it into parts by time, or keep "
        f"only arrival_s, prompt_tokens and output_tokens as Parquet"
    )
