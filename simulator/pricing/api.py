"""What a paid API charges for tokens, and from which volume on one's own GPUs are cheaper."""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.catalog import load_api_prices
from simulator.errors import ServelabError, nearest


@dataclass(frozen=True)
class ApiPrice:
    """USD per 1M tokens; ``cached_input``: of prompt tokens that the API found in its cache, None: as input."""

    model: str
    input_usd_per_1m: float
    output_usd_per_1m: float
    cached_input_usd_per_1m: float | None
    as_of: str
    source: str


def find_api_price(model: str) -> ApiPrice:
    """The price of a model of data/api_prices.csv, by its name or the part after the owner.

    Raises ServelabError naming the nearest.

    >>> find_api_price("qwen3-8b").output_usd_per_1m
    0.455
    """
    known = {row["model"]: row for row in load_api_prices()}
    short = {name.rpartition("/")[2]: row for name, row in known.items()}
    row = known.get(model) or short.get(model.lower())
    if row is None:
        raise ServelabError(
            f"no API price for {model!r}{nearest(model, [*known, *short])}; those there are: "
            f"{', '.join(sorted(known))}; or give input_usd_per_1m_tokens and output_usd_per_1m_tokens of your own"
        )
    cached = row.get("cached_input_usd_per_1m_tokens")
    return ApiPrice(
        row["model"],
        float(row["input_usd_per_1m_tokens"]),
        float(row["output_usd_per_1m_tokens"]),
        float(cached) if cached else None,
        row["as_of"],
        row["source"],
    )


def api_cost_usd(input_tokens: float, cached_tokens: float, output_tokens: float, price: ApiPrice) -> float:
    """What an API charges [USD]; ``cached_tokens`` are part of ``input_tokens``.

    >>> api_cost_usd(2e6, 1e6, 1e6, ApiPrice("m", 1.0, 4.0, 0.25, "", ""))
    5.25
    >>> api_cost_usd(2e6, 1e6, 1e6, ApiPrice("m", 1.0, 4.0, None, "", ""))
    6.0
    """
    cached = price.input_usd_per_1m if price.cached_input_usd_per_1m is None else price.cached_input_usd_per_1m
    return (
        (input_tokens - cached_tokens) * price.input_usd_per_1m
        + cached_tokens * cached
        + output_tokens * price.output_usd_per_1m
    ) / 1e6


def break_even(
    own_usd: Callable[[float], float], api_usd_per_unit: float, most: float, precision: float = 1e-9
) -> float | None:
    """The least volume above which ``own_usd(volume)`` stays below what the API charges, up to ``most``; None: never.

    ``own_usd`` must not fall as the volume rises, and may rise in steps, a machine at a time: then the volume is that
    after the last step that still costs more, however short the stretch is. Found by bisection to ``precision``,
    relative to ``most``.

    >>> round(break_even(lambda volume: 100.0, 2.0, 1000.0), 5)
    50.0
    >>> break_even(lambda volume: 3.0 * volume, 2.0, 1000.0) is None
    True
    >>> dear = lambda volume: 10.0 if volume <= 9.99 else 20.0  # dearer from 9.99 to 10 only
    >>> round(break_even(dear, 2.0, 100.0), 5)
    10.0
    """

    def last_loss(low: float, high: float) -> float | None:
        # nowhere between them does own cost more than at the upper end, or the API charge less than at the lower
        if api_usd_per_unit * low > own_usd(high):
            return None
        if high - low <= precision * most:
            return high
        middle = (low + high) / 2
        right = last_loss(middle, high)
        return last_loss(low, middle) if right is None else right

    if api_usd_per_unit * most <= own_usd(most):
        return None
    return last_loss(0.0, most)
