"""One seed sequence per simulation, one child per component, found by name.

A component's draws depend on the root seed and on its own name only, so changing, adding or removing
another component leaves them as they were.
"""

import zlib

import numpy as np


def named_seed(seq: np.random.SeedSequence, name: str) -> np.random.SeedSequence:
    """The child of ``seq`` that belongs to ``name``. Pure: ``seq`` is not advanced.

    >>> named_seed(np.random.SeedSequence(7), "arrivals").spawn_key
    (3612958146,)
    """
    return np.random.SeedSequence(
        seq.entropy, spawn_key=(*seq.spawn_key, zlib.crc32(name.encode())), pool_size=seq.pool_size
    )


def named_rng(seq: np.random.SeedSequence, name: str) -> np.random.Generator:
    """A generator seeded with the child of ``seq`` that belongs to ``name``.

    >>> root = np.random.SeedSequence(7)
    >>> bool(named_rng(root, "router").random() == named_rng(root, "router").random())
    True
    """
    return np.random.Generator(np.random.PCG64(named_seed(seq, name)))
