"""Straight lines between points of a parameter array, compiled."""

from simulator.engine.compiled import compiled


@compiled
def below(p, start, n, x):
    """Index i of the segment [i, i + 1] of the rising axis ``p[start : start + n]`` that ``x`` lies in, or is
    nearest to."""
    low, high = 0, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        if p[start + middle] <= x:
            low = middle
        else:
            high = middle
    return low


@compiled
def line(p, start, n, x):
    """Value at ``x`` of the line through n points, abscissae at ``start`` and ordinates after them; straight on at
    the ends."""
    if n == 1:
        return p[start + n]
    i = below(p, start, n, x)
    x0, y0 = p[start + i], p[start + n + i]
    return y0 + (p[start + n + i + 1] - y0) * ((x - x0) / (p[start + i + 1] - x0))
