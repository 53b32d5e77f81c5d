"""Recorded arrivals as a profile of rates and the irregularity that is left.

Equal windows are joined with their neighbours as long as that costs less likelihood than a step is worth: Poisson
deviance, scaled by the dispersion of the intervals, against a penalty as of the Bayesian information criterion [1]_.
What is left is the coefficient of variation of the intervals on the clock of the rate.

.. [1] Schwarz, Annals of Statistics 6, 1978; for changes of level 1.5 times as much, Zhang, Siegmund, Biometrics 63,
   2007; bottom-up joining as in Keogh et al., ICDM 2001.
"""

from typing import Any

import numpy as np

PER_WINDOW = 20  # arrivals of a window, at least
WINDOWS = 480  # at most so many
STEP = 2.0  # times log(windows): a step has a time and a rate, and is the best of many [1]_


def fit_arrivals(arrival_s: np.ndarray, observed_s: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Arrivals of kind poisson, gamma or profile, and what they rest on: windows, steps, cv.

    ``observed_s`` is the time [s] that was watched, at least to the last arrival.
    """
    n = len(arrival_s)
    windows = int(np.clip(n / PER_WINDOW, 1, WINDOWS))
    width = observed_s / windows
    counts = np.bincount(np.minimum((arrival_s / width).astype(int), windows - 1), minlength=windows)
    spread = _variation(arrival_s, np.arange(windows + 1) * width, counts / width)
    first = joined(counts, penalty=STEP * np.log(max(windows, 2)) * max(spread**2, 1.0))
    edges = np.append(first, windows) * width
    rates = np.add.reduceat(counts, first) / np.diff(edges)
    cv = _variation(arrival_s, edges, rates)
    facts = {"windows": float(windows), "steps": float(len(rates)), "cv": cv}
    plain = abs(cv - 1) < max(0.03, 2 / np.sqrt(n))  # what a Poisson process of so many arrivals shows
    if len(rates) == 1:
        rate = {"rate_rps": float(n / observed_s)}
        return ({"kind": "poisson", **rate} if plain else {"kind": "gamma", **rate, "cv": float(cv)}), facts
    points = [[float(t), float(r)] for t, r in zip(edges[:-1], rates, strict=True)]
    out = {"kind": "profile", "interpolation": "step", "points": points}
    return (out if plain else {**out, "cv": float(np.clip(cv, 0.01, 100))}), facts


def loosened(arrival_s: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Arrivals that were written down in coarse steps, spread evenly over their step; and that step [s], 0: times are
    fine.

    Times are coarse where requests share them by the dozen or so: fewer than half as many times as requests.
    """
    times = np.unique(arrival_s)
    if len(times) < 3 or 2 * len(times) > len(arrival_s):
        return arrival_s, 0.0
    step = float(np.diff(times).min())
    return np.sort(arrival_s + rng.random(len(arrival_s)) * step), step


def _variation(arrival_s: np.ndarray, edges: np.ndarray, rates: np.ndarray) -> float:
    """Coefficient of variation of the intervals on the clock of a step rate; 1 for fewer than three arrivals."""
    upto = np.concatenate(([0.0], np.cumsum(rates * np.diff(edges))))
    intervals = np.diff(np.interp(arrival_s, edges, upto))
    if len(intervals) < 2 or intervals.mean() <= 0:
        return 1.0
    return float(intervals.std() / intervals.mean())


def joined(counts: np.ndarray, penalty: float) -> np.ndarray:
    """First windows of the segments that are left when neighbours are joined, cheapest first, while it costs less than
    ``penalty``.

    >>> joined(np.array([10, 11, 9, 100, 101]), 3.0).tolist()
    [0, 3]
    """
    first, total, length = list(range(len(counts))), counts.astype(float).tolist(), [1.0] * len(counts)

    def score(c: float, w: float) -> float:
        return c * np.log(c / w) if c > 0 else 0.0

    def cost(i: int) -> float:
        apart = score(total[i], length[i]) + score(total[i + 1], length[i + 1])
        return apart - score(total[i] + total[i + 1], length[i] + length[i + 1])

    costs = [cost(i) for i in range(len(first) - 1)]
    while costs:
        i = int(np.argmin(costs))
        if costs[i] >= penalty:
            break
        total[i], length[i] = total[i] + total[i + 1], length[i] + length[i + 1]
        del total[i + 1], length[i + 1], first[i + 1], costs[i]
        for k in (i - 1, i):
            if 0 <= k < len(costs):
                costs[k] = cost(k)
    return np.array(first)
