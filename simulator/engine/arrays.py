"""The arrays of a fleet as compiled code reaches them.

Compiled functions get one small integer array, the *handle* of a fleet: address and shape of each of its arrays.
Handing over a single argument keeps calls and compilation fast. ``slot(H)[j, s]`` is slot s of replica j. Without
compilation the handle is the fleet itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from simulator.engine import state
from simulator.engine.compiled import JIT

_I4, _I8, _F8 = np.dtype("i4"), np.dtype("i8"), np.dtype("f8")
_WORDS = 4

# name -> dtype and number of dimensions, as in state.Fleet
LAYOUT: dict[str, tuple[np.dtype, int]] = {
    "config": (state.CONFIG, 1), "requests": (state.REQUEST, 1), "replica": (state.REPLICA, 1),
    "slot": (state.SLOT, 2), "prefill": (_I4, 2), "free_slot": (_I4, 2), "calendar": (_I4, 2),
    "phase_count": (_I8, 2), "phase_head": (_I4, 2), "wait_head": (_I4, 2), "wait_tail": (_I4, 2),
    "batch": (state.BATCH, 2), "entry": (_I4, 3), "extra": (_I4, 3), "front_free": (_F8, 2), "future": (_I4, 1),
    "block": (state.BLOCK, 2), "table": (_I4, 3), "bucket": (_I4, 2), "free_block": (_I4, 2),
    "head_hash": (np.dtype("u8"), 2), "hit": (_I4, 2), "segment_stream": (_I8, 1), "segment_tokens": (_I4, 1),
    "step_params": (_F8, 1), "sizes": (_I8, 1), "itl": (_I8, 1), "itl_over": (_I8, 2), "steps": (state.STEP, 1),
    "window": (state.WINDOW, 2), "gaps": (_F8, 2), "noticed": (_I4, 1), "log": (_I8, 1),
}  # fmt: skip


def handle(fleet: state.Fleet) -> Any:
    """What compiled functions take for ``fleet``. The fleet must be kept alive as long as it is used."""
    if not JIT:
        return fleet
    words = np.zeros(_WORDS * len(LAYOUT), np.int64)
    for i, (name, (dtype, ndim)) in enumerate(LAYOUT.items()):
        a = getattr(fleet, name)
        if a.dtype != dtype or a.ndim != ndim or not a.flags.c_contiguous:
            raise TypeError(f"{name} must be a contiguous {dtype} array of {ndim} dimensions")
        words[_WORDS * i] = a.ctypes.data
        words[_WORDS * i + 1 : _WORDS * i + 1 + ndim] = a.shape
    return words


def _reach(name: str) -> Callable[[Any], Any]:
    """The function that finds array ``name`` from a handle."""
    dtype, ndim = LAYOUT[name]
    first = _WORDS * list(LAYOUT).index(name)
    if not JIT:
        return lambda H: getattr(H, name)
    array = types.Array(from_dtype(dtype), ndim, "C")

    def reach(_, H):
        def generate(context, builder, signature, arguments):
            words = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            word = [
                builder.load(builder.gep(words, [context.get_constant(types.intp, first + i)])) for i in range(_WORDS)
            ]
            shape = word[1 : 1 + ndim]
            strides = [context.get_constant(types.intp, dtype.itemsize)]
            for extent in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], extent))
            view = context.make_array(array)(context, builder)
            data = builder.inttoptr(word[0], view.data.type)
            size = context.get_constant(types.intp, dtype.itemsize)
            populate_array(view, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return view._getvalue()

        return array(H), generate

    reach.__name__ = reach.__qualname__ = name
    found: Any = intrinsic(reach)
    return found


config, requests, replica, slot = _reach("config"), _reach("requests"), _reach("replica"), _reach("slot")
prefill, free_slot, calendar = _reach("prefill"), _reach("free_slot"), _reach("calendar")
phase_count, phase_head = _reach("phase_count"), _reach("phase_head")
wait_head, wait_tail = _reach("wait_head"), _reach("wait_tail")
batch, entry, extra = _reach("batch"), _reach("entry"), _reach("extra")
front_free, future = _reach("front_free"), _reach("future")
block, table, bucket, free_block = _reach("block"), _reach("table"), _reach("bucket"), _reach("free_block")
head_hash, hit = _reach("head_hash"), _reach("hit")
segment_stream, segment_tokens = _reach("segment_stream"), _reach("segment_tokens")
step_params, sizes = _reach("step_params"), _reach("sizes")
itl, itl_over = _reach("itl"), _reach("itl_over")
steps, window, log = _reach("steps"), _reach("window"), _reach("log")
gaps, noticed = _reach("gaps"), _reach("noticed")
