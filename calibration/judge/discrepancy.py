"""How wrong a profile is beyond its coefficients: one standard deviation by metric, from errors on load tests that
it has not seen."""

from collections.abc import Sequence

import numpy as np

RATES = ("requests_per_s",)


def spread(metric: str, errors: Sequence[float] | np.ndarray) -> float:
    """Standard deviation of relative ``errors`` of a mean.

    Of latencies it is that of their logarithms by the median, 1.4826 median |log(1 + error)| [1]_: near saturation a
    few tests are off by factors, which worlds with other step times reproduce by themselves when they are simulated;
    counted here they would count twice. Of throughput, which saturation caps, it is the root mean square.

    .. [1] Rousseeuw, Croux, "Alternatives to the median absolute deviation", JASA 88, 1993.

    >>> round(spread("ttft_s", [0.1, -0.1, 2.0]), 4), round(spread("requests_per_s", [0.03, -0.04]), 4)
    (0.1562, 0.0354)
    """
    e = np.asarray(errors, float)
    if metric in RATES:
        return float(np.sqrt(np.mean(e**2)))
    return float(1.4826 * np.median(np.abs(np.log1p(e))))
