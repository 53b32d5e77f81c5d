"""What a GPU costs: the scenario's choice of provider and purchase, and the offers that remain."""

from collections.abc import Container
from dataclasses import dataclass
from difflib import SequenceMatcher
from os.path import commonprefix
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog import find_gpu
from simulator.errors import ServelabError, nearest

COLUMN = {"on_demand": "on_demand_usd_per_hour", "spot": "spot_usd_per_hour"}


class PricesConfig(BaseModel):
    """Where the GPUs are bought. Without a choice the cheapest of the price table is taken and named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str | None = Field(default=None, description="provider of the price table; none: any")
    region: str | None = Field(default=None, description="region of the provider; none: any")
    instance_type: str | None = Field(
        default=None, description="instance type; none: the cheapest combination"
    )
    purchase: Literal["on_demand", "spot"] = Field(
        default="on_demand", description="how instances are bought"
    )
    usd_per_gpu_hour: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="your own price by GPU [USD/GPU/hour], in place of the table"
    )


@dataclass(frozen=True)
class Offer:
    """An instance type as sold: whole machines of ``gpu_count`` GPUs at ``usd_per_hour`` [USD/hour]."""

    provider: str
    instance_type: str
    gpu: str
    gpu_count: int
    region: str
    usd_per_hour: float
    as_of: str
    source: str

    def __str__(self) -> str:
        place = f" {self.region}" if self.region else ""
        return f"{self.provider} {self.instance_type}{place} ({self.gpu_count} x {self.gpu})"


def own_prices(config: PricesConfig, gpus: Container[str]) -> dict[str, float]:
    """The user's own prices [USD/GPU/hour] by catalog name; ``gpus`` are names of the user's own GPUs.

    Raises ServelabError for a name that is neither.

    >>> own_prices(PricesConfig(usd_per_gpu_hour={"H100": 2.5}), ())
    {'h100_sxm': 2.5}
    """
    found = {}
    for name, usd in config.usd_per_gpu_hour.items():
        try:
            found[name if name in gpus else find_gpu(name).name] = usd
        except ServelabError as error:
            raise ServelabError(f"prices.usd_per_gpu_hour.{name}: {error}") from None
    return found


def offers(table: pd.DataFrame, gpu: str, config: PricesConfig) -> list[Offer]:
    """Offers of ``gpu`` (catalog name) that ``config`` admits, in the table's order.

    ``table`` has the columns of ``catalog.load_prices()``: provider, instance_type, gpu, gpu_count, region,
    on_demand_usd_per_hour, spot_usd_per_hour [USD/hour of the instance], as_of, source; an empty price is
    not offered.

    Raises ServelabError when none is left: it names the choice that excludes them, the nearest right name,
    and the field where a price of one's own goes.
    """
    override = f"set prices.usd_per_gpu_hour.{gpu} to your own price"
    price = COLUMN[config.purchase]
    priced = table[table[price].notna()]
    left = priced[priced["gpu"] == gpu]
    if left.empty:
        if config.purchase == "spot" and (table["gpu"] == gpu).any():
            raise ServelabError(
                f"no spot price for GPU {gpu!r}: set prices.purchase to on_demand, or {override}"
            )
        raise ServelabError(
            f"no {config.purchase} price for GPU {gpu!r}; the nearest name that has one is "
            f"{_nearest_gpu(gpu, sorted(set(priced['gpu'])))}; {override}"
        )
    for field in ("provider", "region", "instance_type"):
        value = getattr(config, field)
        if value is None:
            continue
        choices = sorted({str(v) for v in left[field].dropna()})
        left = left[left[field] == value]
        if left.empty:
            raise ServelabError(
                f"prices.{field}={value!r} has no {config.purchase} price for GPU {gpu!r}"
                f"{nearest(value, choices)}; those that have: {', '.join(choices)}; or {override}"
            )
    return [
        Offer(
            provider=str(row["provider"]),
            instance_type=str(row["instance_type"]),
            gpu=gpu,
            gpu_count=int(row["gpu_count"]),
            region=_text(row["region"]),
            usd_per_hour=float(row[price]),
            as_of=_text(row["as_of"]),
            source=_text(row["source"]),
        )
        for row in left.to_dict("records")
    ]


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _nearest_gpu(gpu: str, priced: list[str]) -> str:
    """The priced GPU most alike in name: the longest common beginning, then the likeness of the rest.

    >>> _nearest_gpu("h100_nvl", ["a100_sxm", "h100_sxm", "h200_sxm"])
    "'h100_sxm'"
    """

    def alike(other: str) -> tuple[int, float]:
        return len(commonprefix([gpu, other])), SequenceMatcher(None, gpu, other).ratio()

    return repr(max(priced, key=alike)) if priced else "none: the price table is empty"
