"""What a GPU costs: the scenario's choice of provider and purchase, and the offers that remain."""

from collections.abc import Container
from dataclasses import dataclass
from difflib import SequenceMatcher
from os.path import commonprefix
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulator.catalog import find_gpu
from simulator.errors import ServelabError, nearest
from simulator.pricing.commitments import Commitment, find_commitment

COLUMN = {"on_demand": "on_demand_usd_per_hour", "spot": "spot_usd_per_hour"}
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tranche(_Part):
    """So many machines bought one way; those after them are bought as the next tranche says.

    A committed machine is paid for the whole run, used or not, at the on-demand price less the discount, of which the
    upfront part is a part: the bill spreads it over the term.
    """

    purchase: Literal["on_demand", "spot", "committed"]
    instances: int | None = Field(default=None, ge=0, description="machines of each deployment; null: all further ones")
    commitment: str | None = Field(
        default=None, description="of data/commitments.csv for the machine's provider, such as 1yr_no_upfront"
    )
    discount_fraction: float | None = Field(default=None, ge=0, lt=1, description="or your own: of the on-demand price")
    upfront_fraction: float = Field(default=0.0, ge=0, le=1, description="of your own: paid at once")
    term_months: int | None = Field(default=None, gt=0, description="of your own: how long it binds")

    @model_validator(mode="after")
    def _deal_given(self) -> "Tranche":
        own = self.discount_fraction is not None
        if (self.purchase == "committed") != (own or self.commitment is not None):
            raise ValueError("committed machines need commitment or discount_fraction, others have neither")
        if own and (self.commitment is not None or self.term_months is None):
            raise ValueError("discount_fraction is in place of commitment, and needs term_months")
        if self.purchase == "committed" and self.instances is None:
            raise ValueError("instances: say how many machines are committed")
        return self

    def deal(self, provider: str) -> Commitment:
        """The commitment. Raises ServelabError where the provider has none of that name."""
        if self.discount_fraction is None:
            assert self.commitment is not None
            return find_commitment(provider, self.commitment)
        assert self.term_months is not None
        return Commitment(
            provider,
            "of your own",
            self.term_months,
            self.upfront_fraction,
            self.discount_fraction,
            "",
            "your own, prices.purchase",
        )


class Overflow(_Part):
    """A paid API that serves what the gateway turns away: a model of data/api_prices.csv, or prices of your own."""

    model: str | None = Field(default=None, description="of data/api_prices.csv")
    input_usd_per_1m_tokens: Usd | None = None
    output_usd_per_1m_tokens: Usd | None = None
    cached_input_usd_per_1m_tokens: Usd | None = Field(default=None, description="null: as input")
    cached_share: float = Field(
        default=0.0, ge=0, le=1, description="of prompt tokens, found in the API's cache; it is not simulated"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Overflow":
        own = self.input_usd_per_1m_tokens is not None and self.output_usd_per_1m_tokens is not None
        if own == (self.model is not None):
            raise ValueError("give model, or input_usd_per_1m_tokens and output_usd_per_1m_tokens")
        return self


class PricesConfig(_Part):
    """What things cost, and how machines are bought. Without a choice the cheapest of the price table is taken and
    named.

    Nothing here but the price table has a default: what is not given is not billed, and the bill says so.
    """

    provider: str | None = Field(default=None, description="provider of the price table; none: any")
    region: str | None = Field(default=None, description="region of the provider; none: any")
    instance_type: str | None = Field(default=None, description="instance type; none: the cheapest combination")
    purchase: Literal["on_demand", "spot"] | tuple[Tranche, ...] = Field(
        default="on_demand", description="how machines are bought: one way, or tranches, the last without instances"
    )
    usd_per_gpu_hour: dict[str, Usd] = Field(
        default_factory=dict, description="your own price by GPU [USD/GPU/hour], in place of the table"
    )
    file: str | None = Field(
        default=None, description="CSV with the columns of data/prices.csv; its rows replace and add to those"
    )
    cpu_usd_per_core_hour: Usd | None = Field(default=None, description="of stages [USD/core/hour]")
    memory_usd_per_gib_hour: Usd | None = Field(default=None, description="of stages [USD/GiB/hour]")
    storage_gb: Usd | None = Field(default=None, description="disks, registry, caches [GB]")
    storage_usd_per_gb_month: Usd | None = Field(default=None, description="[USD/GB/month]")
    egress_bytes_per_token: Usd | None = Field(default=None, description="sent per output token [B/token]")
    egress_usd_per_gb: Usd | None = Field(default=None, description="[USD/GB]")
    cluster_usd_per_hour: Usd | None = Field(default=None, description="control plane [USD/hour]")
    licence_usd_per_gpu_hour: Usd | None = Field(default=None, description="software [USD/GPU/hour]")
    overflow: Overflow | None = Field(
        default=None, description="a paid API that serves what the gateway turns away; null: nobody does"
    )

    @field_validator("purchase")
    @classmethod
    def _last_is_open(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            if not value or value[-1].instances is not None and value[-1].purchase != "committed":
                raise ValueError("the last tranche is for all further machines: leave its instances out")
            if any(t.instances is None for t in value[:-1]):
                raise ValueError("every tranche but the last needs instances")
        return value

    @model_validator(mode="after")
    def _pairs(self) -> "PricesConfig":
        for a, b in (("storage_gb", "storage_usd_per_gb_month"), ("egress_bytes_per_token", "egress_usd_per_gb")):
            if (getattr(self, a) is None) != (getattr(self, b) is None):
                raise ValueError(f"{a} and {b} need each other, got {getattr(self, a)} and {getattr(self, b)}")
        return self

    @property
    def spot(self) -> bool:
        """Whether some machines are bought on the spot market."""
        if isinstance(self.purchase, str):
            return self.purchase == "spot"
        return any(t.purchase == "spot" for t in self.purchase)

    @property
    def sold_as(self) -> Literal["on_demand", "spot"]:
        """The price by which machines are chosen: that of the last tranche."""
        if not isinstance(self.purchase, tuple):
            return self.purchase
        last = self.purchase[-1].purchase
        return "on_demand" if last == "committed" else last

    def tranche(self, place: int) -> Tranche:
        """How the machine of that number, from 0, of a deployment is bought; beyond the last tranche on demand."""
        if not isinstance(self.purchase, tuple):
            return Tranche(purchase=self.purchase)
        for tranche in self.purchase:
            if tranche.instances is None or place < tranche.instances:
                return tranche
            place -= tranche.instances
        return Tranche(purchase="on_demand")

    @property
    def committed(self) -> int:
        """Machines up to the last committed one."""
        count = most = 0
        for tranche in self.purchase if isinstance(self.purchase, tuple) else ():
            count += tranche.instances or 0
            most = count if tranche.purchase == "committed" else most
        return most


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
    and the fields where a price of one's own goes.
    """
    override = f"set prices.usd_per_gpu_hour.{gpu} to your own price, or name a price list with it in prices.file"
    price = COLUMN[config.sold_as]
    priced = table[table[price].notna()]
    left = priced[priced["gpu"] == gpu]
    if left.empty:
        if config.sold_as == "spot" and (table["gpu"] == gpu).any():
            raise ServelabError(f"no spot price for GPU {gpu!r}: set prices.purchase to on_demand, or {override}")
        raise ServelabError(
            f"no {config.sold_as} price for GPU {gpu!r}; the nearest name that has one is "
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
                f"prices.{field}={value!r} has no {config.sold_as} price for GPU {gpu!r}"
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
