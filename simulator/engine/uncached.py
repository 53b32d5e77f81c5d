"""A user's own step time: the engine loop run as Python, planning and handing over still compiled."""

from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

from simulator.engine import arrays, loop
from simulator.engine.compiled import JIT
from simulator.engine.state import Fleet

StepSeconds = Callable[..., float]


class _Both(NamedTuple):
    """The handle of the Python loop: the fleet itself, and the handle for what is compiled."""

    fleet: Fleet
    handle: Any


def python_loop(step_seconds: StepSeconds) -> Callable[[Fleet, Any, float, int], int]:
    """``advance(fleet, handle, until, most)``: `loop.advance` timed by ``step_seconds`` in place of the built-in models.

    ``step_seconds(code, p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, prefill_kv, decode_seqs,
    decode_kv, sampled)`` returns the GPU time of a batch [s]; see `step_time.gpu_seconds`.
    """
    scope: dict[str, Any] = dict(vars(loop))
    if JIT:
        reach = {name: lambda H, name=name: getattr(H.fleet, name) for name in arrays.LAYOUT}
        scope["A"] = SimpleNamespace(**reach)
        for name, value in vars(loop).items():
            if hasattr(value, "py_func"):
                scope[name] = lambda H, *rest, call=value: call(H.handle, *rest)
    scope["gpu_seconds"] = step_seconds
    for name in ("begin", "run", "advance"):
        compiled = getattr(loop, name)
        scope[name] = FunctionType(getattr(compiled, "py_func", compiled).__code__, scope, name)
    advance = scope["advance"]
    return lambda fleet, handle, until, most: advance(_Both(fleet, handle) if JIT else fleet, until, most)
