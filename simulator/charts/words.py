"""Figures and fields as people read them, each with its unit, and numbers without an exponent."""

import math

LATENCIES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL", "normalised": "normalised latency"}
NAMES = {
    "attainment": ("share within SLO", ""),
    "worst_window": ("share within SLO, worst window", ""),
    "margin": ("margin to the SLO", ""),
    "duty_cycle": ("GPU duty cycle", ""),
    "rate_rps": ("load", "request/s"),
    "throughput_rps": ("throughput", "request/s"),
    "throughput_tok_s": ("throughput, output", "token/s"),
    "goodput_rps": ("goodput", "request/s"),
    "usd_per_hour": ("cost", "USD/hour"),
    "usd_per_1m_output_tokens": ("cost of output", "USD/1M token"),
    "usd_per_request": ("cost of a request", "USD"),
    "usd_per_1m_output_tokens_within_slo": ("cost of output within SLO", "USD/1M token"),
    "traffic": ("traffic, times the scenario's", ""),
    "max_num_batched_tokens": ("max_num_batched_tokens", "token"),
    "max_model_len": ("max_model_len", "token"),
    "block_size": ("block_size", "token"),
    "gpu": ("GPU", ""),
}
SHARES = ("attainment", "worst_window", "margin", "duty_cycle")  # shown in per cent


def named(column: str) -> tuple[str, str]:
    """What a column of figures is, and its unit, empty for counts and shares.

    >>> named("ttft_s_p99"), named("usd_per_hour"), named("replicas")
    (('TTFT p99', 's'), ('cost', 'USD/hour'), ('replicas', ''))
    """
    short = column.rpartition(".")[2]  # the last part of a path such as deployments.0.replicas
    if short in NAMES:
        return NAMES[short]
    base, _, statistic = short.partition("_s_")
    base = base.removesuffix("_s")
    if base in LATENCIES:
        return f"{LATENCIES[base]} {statistic}".strip(), "s"
    return short, ""


def axis(column: str) -> str:
    """The title of an axis of a column.

    >>> axis("tpot_s_p99"), axis("attainment")
    ('TPOT p99 [s]', 'share within SLO')
    """
    text, unit = named(column)
    return f"{text} [{unit}]" if unit else text


def number(value: float) -> str:
    """Three digits or all before the point, never an exponent.

    >>> number(0.01234), number(12.345), number(1234567.0), number(0.0)
    ('0.0123', '12.3', '1,234,567', '0')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return "0" if value == 0 else f"{value:.7f}".rstrip("0").rstrip(".")
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def seconds(top: float) -> tuple[float, str]:
    """Factor and unit in which times up to ``top`` [s] are shown.

    >>> seconds(0.05), seconds(12.0)
    ((1000.0, 'ms'), (1.0, 's'))
    """
    return (1e3, "ms") if top < 0.5 else (1.0, "s")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``, both positive, for a logarithmic axis: four or more where there are
    as many.

    >>> ticks(13.0, 440.0)
    [20.0, 50.0, 100.0, 200.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [float(f"{d}e{p}") for p in powers for d in digits if low <= float(f"{d}e{p}") <= high]
        if len(found) >= 4:
            break
    return found
