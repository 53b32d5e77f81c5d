"""Requests sent one by one to the replica with the fewest, without leaving compiled code.

The same as the router ``least_outstanding`` before a gateway that does nothing else.
"""

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.front import accept
from simulator.engine.loop import IDLE, REACHED, advance


@compiled
def least_outstanding(H, first, last, most):
    """Requests ``first`` to ``last`` (excluded), in order of arrival, each after all that happens before it.

    Returns how many have been sent and the reason of coming back: `REACHED` when all are.
    """
    for row in range(first, last):
        code = advance(H, A.requests(H)[row].arrival, most)
        if code != REACHED and code != IDLE:
            return row, code
        best, least = 0, A.replica(H)[0].unfinished
        for j in range(1, len(A.replica(H))):
            if A.replica(H)[j].unfinished < least:
                best, least = j, A.replica(H)[j].unfinished
        accept(H, best, row)
    return last, REACHED
