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


def python_loop(step_seconds: StepSeconds) -> dict[str, Callable[..., Any]]:
    """``advance`` and ``until_notice`` of `loop`, timed by ``step_seconds`` in place of the built-in models.

    What they take for a handle is `python_handle`.

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
    scope["gpu_seconds"] = lambda *batch: step_seconds(*batch[:10])  # without the span of contexts
    for name in ("begin", "run", "advance", "until_notice"):
        compiled = getattr(loop, name)
        scope[name] = FunctionType(getattr(compiled, "py_func", compiled).__code__, scope, name)
    return {name: scope[name] for name in ("advance", "until_notice")}


def python_handle(fleet: Fleet, handle: Any) -> Any:
    """The handle of ``fleet`` for the functions of `python_loop`."""
    return _Both(fleet, handle) if JIT else fleet
