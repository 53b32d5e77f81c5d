"""How the engine is compiled: cached on disk, without reference counting (no function here makes an array), and without
holding Python's lock, so that a notebook answers while a simulation runs in a thread.

With ``NUMBA_DISABLE_JIT=1`` the very same functions run as Python.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numba

JIT = not bool(getattr(numba.config, "DISABLE_JIT", 0))

F = TypeVar("F", bound=Callable[..., Any])


def _fingerprint() -> tuple[str, int]:
    """Of all sources of the engine: numba looks only at a function's own file, not at those that it calls."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest(), 0


FINGERPRINT = _fingerprint()


def compiled(function: F) -> F:
    """Compile ``function`` on its first call."""
    njit: Any = numba.njit  # _nrt is not in its type stubs
    dispatcher = njit(cache=True, _nrt=False, nogil=True)(function)
    if JIT:
        dispatcher._cache._cache_file._source_stamp = FINGERPRINT
    return dispatcher


def on_disk(function: Any) -> bool:
    """Whether ``function`` was compiled before, by this version of the sources, or need not be."""
    if not JIT:
        return True
    cache = function._cache._cache_file
    return bool(cache._load_index())
