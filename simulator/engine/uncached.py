"""A user's own step time: the engine loop run as Python, planning and handing over still compiled."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from simulator.engine import loop

StepSeconds = Callable[..., float]


def python_loop(step_seconds: StepSeconds) -> Callable[..., int]:
    """``advance`` of `loop`, timed by ``step_seconds`` in place of the built-in models.

    ``step_seconds(code, p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, prefill_kv, decode_seqs,
    decode_kv, sampled)`` returns the GPU time of a batch [s]; see `step_time.gpu_seconds`.
    """
    scope: dict[str, Any] = dict(vars(loop)) | {"gpu_seconds": step_seconds}
    for name in ("begin", "run", "advance"):
        compiled = scope[name]
        scope[name] = FunctionType(getattr(compiled, "py_func", compiled).__code__, scope, name)
    return scope["advance"]
