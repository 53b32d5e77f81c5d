"""Service-level objectives: what makes a request good, and how many must be."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

LIMITS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2el_s": "E2EL", "deadline_s": "deadline"}


class SloConfig(BaseModel):
    """Limits that each request must meet, and the share that must meet them.

    A limit that is not given does not bind. The names are those of the goodput of ``vllm bench serve``.
    A limit on single gaps between tokens (ITL) is not among them: gaps are kept as a histogram of the
    whole run, so which request a gap belongs to is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttft_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="limit on time to first token [s]"
    )
    tpot_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="limit on time per output token [s]"
    )
    e2el_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="limit on end-to-end latency [s]")
    deadline_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="of offline jobs: when they must have ended [s since the start of the workload]",
    )
    attainment: float = Field(default=0.99, gt=0, le=1, description="share of arrived requests that must be good")
    window_s: float = Field(default=300.0, gt=0, allow_inf_nan=False, description="length of a judged window [s]")

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name [s].

        >>> SloConfig(ttft_s=1.0).limits()
        {'ttft_s': 1.0}
        """
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}


def met(completed: np.ndarray, latency_s: np.ndarray, limit_s: float) -> np.ndarray:
    """Which requests completed within a limit.

    An undefined latency of a completed request meets the limit: the TPOT of one token.

    >>> met(np.array([True, True, False]), np.array([2.0, np.nan, 0.1]), 1.0)
    array([False,  True, False])
    """
    return completed & ~(latency_s > limit_s)


def good_requests(completed: np.ndarray, latencies_s: Mapping[str, np.ndarray], slo: SloConfig) -> np.ndarray:
    """Which requests completed and met every limit of ``slo``."""
    good = completed.copy()
    for name, limit_s in slo.limits().items():
        good &= met(completed, latencies_s[name], limit_s)
    return good


def worst_window(
    arrival_s: np.ndarray, good: np.ndarray, window_s: float, origin_s: float = 0.0
) -> tuple[float, float, int]:
    """Attainment, start [s] and arrivals of the worst window, the earliest of equals.

    Windows of ``window_s`` are laid end to end from ``origin_s``; one without arrivals does not count.
    (nan, nan, 0) where nothing arrived.

    >>> worst_window(np.array([0.0, 1.0, 25.0, 26.0]), np.array([True, True, True, False]), 10.0)
    (0.5, 20.0, 2)
    """
    if arrival_s.size == 0:
        return float("nan"), float("nan"), 0
    number = np.floor((arrival_s - origin_s) / window_s)
    windows, inverse = np.unique(number, return_inverse=True)
    arrived = np.bincount(inverse)
    share = np.bincount(inverse, weights=good) / arrived
    worst = int(np.argmin(share))
    return float(share[worst]), float(windows[worst] * window_s + origin_s), int(arrived[worst])


def _at_target(completed: np.ndarray, latency_s: np.ndarray, share: float) -> float:
    """Smallest latency [s] that ``share`` of the arrived meet; infinite where too few completed."""
    met_by = np.where(completed, np.nan_to_num(latency_s, nan=0.0), np.inf)
    if met_by.size == 0:
        return float("nan")
    rank = max(int(np.ceil(round(share * met_by.size, 6))) - 1, 0)
    return float(np.partition(met_by, rank)[rank])


def judge(
    arrival_s: np.ndarray,
    completed: np.ndarray,
    latencies_s: Mapping[str, np.ndarray],
    slo: SloConfig,
    duration_s: float,
    origin_s: float = 0.0,
) -> pd.DataFrame:
    """Judge requests against each limit and against all of them together (the row ``all``).

    Attainment is good requests over arrived ones, over the run and in the worst window of ``slo.window_s``
    by arrival; a request that did not complete is not good. ``goodput`` is good requests per second
    [request/s] of ``duration_s``. ``at_target_s`` is the latency [s] that the target share of the arrived
    met (infinite when too few completed). ``meets`` wants the target over the run and in the worst window.

    Parameters: one value a request, ``arrival_s`` [s], ``completed`` (bool), and by name of the limit the
    latency [s], NaN where undefined.
    """
    rows = []
    for name, limit_s in [*slo.limits().items(), ("all", np.nan)]:
        if name == "all":
            good = good_requests(completed, latencies_s, slo)
            at_target_s = np.nan
        else:
            good = met(completed, latencies_s[name], limit_s)
            at_target_s = _at_target(completed, latencies_s[name], slo.attainment)
        count = int(np.count_nonzero(good))
        share = count / good.size if good.size else np.nan
        worst, start_s, arrived = worst_window(arrival_s, good, slo.window_s, origin_s)
        rows.append(
            {
                "limit": name,
                "limit_s": limit_s,
                "at_target_s": at_target_s,
                "target": slo.attainment,
                "attainment": share,
                "worst_window": worst,
                "worst_window_start_s": start_s,
                "worst_window_arrived": arrived,
                "goodput": count / duration_s if duration_s > 0 else np.nan,
                "meets": bool(share >= slo.attainment and worst >= slo.attainment),
            }
        )
    return pd.DataFrame(rows)
