"""Servers of one's own: capital, energy, space, people; and when they are cheaper than the cloud.

Capital is spread by the capital recovery factor, A = P (A/P, i, n), the residual taken off at its present value [1]_.

.. [1] Blank, Tarquin, "Engineering Economy", 8th ed., chapter 2 (factors) and 6 (capital recovery).
"""

import math

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from simulator.pricing.commitments import HOURS_PER_MONTH


class OnPremises(BaseModel):
    """What a server costs. Nothing has a default that no dated source gives: the user knows them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    servers: int = Field(ge=1)
    gpus_per_server: int = Field(ge=1)
    capex_usd: float = Field(ge=0, description="of one server, installed [USD]")
    residual_usd: float = Field(ge=0, description="of one server at the end of its life [USD]")
    life_years: float = Field(gt=0)
    interest: float = Field(ge=0, lt=1, description="a year")
    server_w: float = Field(ge=0, description="of one server, GPUs and all, on average [W]")
    pue: float = Field(ge=1)
    usd_per_kwh: float = Field(ge=0)
    hosting_usd_per_kw_month: float = Field(ge=0, description="space and cooling by power [USD/kW/month]")
    maintenance_share: float = Field(ge=0, lt=1, description="of the capital, a year")
    staff_usd_per_month: float = Field(ge=0, description="of all servers")


def capital_recovery_factor(interest: float, years: float) -> float:
    """Yearly payment that pays back 1 over ``years`` at ``interest`` a year.

    >>> round(capital_recovery_factor(0.08, 5), 6), capital_recovery_factor(0.0, 4)
    (0.250456, 0.25)
    """
    return interest / -math.expm1(-years * math.log1p(interest)) if interest > 0 else 1 / years


def annuity_usd(capex_usd: float, residual_usd: float, interest: float, years: float) -> float:
    """Capital recovered a year [USD/year].

    >>> annuity_usd(300_000, 0, 0.0, 5)
    60000.0
    >>> round(annuity_usd(300_000, 30_000, 0.08, 5), 2)
    70023.24
    """
    return (capex_usd - residual_usd * (1 + interest) ** -years) * capital_recovery_factor(interest, years)


def monthly(c: OnPremises) -> pd.DataFrame:
    """What the servers cost a month: item, quantity, unit, unit_price_usd, usd.

    >>> c = OnPremises(servers=2, gpus_per_server=8, capex_usd=300_000, residual_usd=0, life_years=5, interest=0,
    ...     server_w=10_000, pue=1.3, usd_per_kwh=0.1, hosting_usd_per_kw_month=150, maintenance_share=0.05,
    ...     staff_usd_per_month=4_000)
    >>> monthly(c)["usd"].tolist()
    [10000.0, 1898.0, 3000.0, 2500.0, 4000.0]
    """
    n, kw = c.servers, c.servers * c.server_w / 1000
    kwh = kw * HOURS_PER_MONTH * c.pue
    rows = [
        ("capital", n, "server", annuity_usd(c.capex_usd, c.residual_usd, c.interest, c.life_years) / 12),
        ("electricity", kwh, "kWh", c.usd_per_kwh),
        ("hosting", kw, "kW", c.hosting_usd_per_kw_month),
        ("maintenance", n, "server", c.capex_usd * c.maintenance_share / 12),
        ("staff", 1, "month", c.staff_usd_per_month),
    ]
    return pd.DataFrame(
        [(item, q, unit, price, q * price) for item, q, unit, price in rows],
        columns=["item", "quantity", "unit", "unit_price_usd", "usd"],
    )


def cumulative(c: OnPremises, cloud_usd_per_month: float, months: int) -> tuple[pd.DataFrame, int | None]:
    """Money spent by the end of each month, owned and rented, and the first month by which owning is cheaper (None: not
    within them).

    Owned: capital at once, everything else month by month; the residual is not counted before the servers are sold.
    Interest is not in these sums of cash.

    >>> c = OnPremises(servers=1, gpus_per_server=8, capex_usd=100_000, residual_usd=0, life_years=5, interest=0.08,
    ...     server_w=0, pue=1, usd_per_kwh=0, hosting_usd_per_kw_month=0, maintenance_share=0,
    ...     staff_usd_per_month=2_000)
    >>> cumulative(c, 12_000, 36)[1]
    10
    """
    lines = monthly(c).set_index("item")["usd"]
    running = float(lines.drop("capital").sum())
    month = list(range(1, months + 1))
    owned = [c.servers * c.capex_usd + running * m for m in month]
    rented = [cloud_usd_per_month * m for m in month]
    frame = pd.DataFrame({"month": month, "owned_usd": owned, "rented_usd": rented})
    cheaper = frame[frame["owned_usd"] <= frame["rented_usd"]]
    return frame, int(cheaper["month"].iloc[0]) if len(cheaper) else None
