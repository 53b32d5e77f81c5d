"""Whether a run begins at once, or compiles the engine first."""

from simulator.engine.compiled import on_disk
from simulator.engine.loop import advance


def compiled_before() -> bool:
    """Whether the engine's loop is compiled on disk."""
    return on_disk(advance)
