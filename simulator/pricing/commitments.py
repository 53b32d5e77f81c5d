"""Commitments: machines paid for whether used or not, at a discount."""

from dataclasses import dataclass

from simulator.catalog import load_commitments
from simulator.errors import ServelabError, nearest

HOURS_PER_MONTH = 730.0  # 8,760 hours of a year over 12


@dataclass(frozen=True)
class Commitment:
    """``discount_fraction`` of the on-demand price; ``upfront_fraction`` of what the term costs is paid at once."""

    provider: str
    commitment: str
    term_months: int
    upfront_fraction: float
    discount_fraction: float
    as_of: str
    source: str


def find_commitment(provider: str, name: str) -> Commitment:
    """A commitment of data/commitments.csv. Raises ServelabError naming those the provider has.

    >>> find_commitment("aws", "1yr_no_upfront").discount_fraction
    0.32
    """
    rows = [r for r in load_commitments() if r["provider"] == provider]
    known = [r["commitment"] for r in rows]
    for r in rows:
        if r["commitment"] == name:
            return Commitment(
                provider,
                name,
                int(r["term_months"]),
                float(r["upfront_fraction"]),
                float(r["discount_fraction"]),
                r["as_of"],
                r["source"],
            )
    has = f"it has {', '.join(known)}" if known else "it has none in data/commitments.csv"
    raise ServelabError(
        f"prices.purchase: commitment {name!r} of {provider}{nearest(name, known)}; {has}; "
        "or give discount_fraction and term_months of your own"
    )


def effective_usd_per_hour(on_demand_usd: float, deal: Commitment) -> float:
    """Price of an hour of the term, upfront part and all [USD/hour].

    >>> effective_usd_per_hour(10.0, Commitment("", "", 12, 0.5, 0.25, "", ""))
    7.5
    """
    return on_demand_usd * (1 - deal.discount_fraction)


def upfront_usd(on_demand_usd: float, deal: Commitment) -> float:
    """What is paid at once for a machine [USD].

    >>> upfront_usd(10.0, Commitment("", "", 12, 0.5, 0.25, "", ""))
    32850.0
    """
    return effective_usd_per_hour(on_demand_usd, deal) * HOURS_PER_MONTH * deal.term_months * deal.upfront_fraction


def break_even_use(deal: Commitment) -> float:
    """Share of the hours above which the commitment is cheaper than on demand: 1 - discount.

    >>> break_even_use(Commitment("", "", 12, 0.0, 0.32, "", ""))
    0.6799999999999999
    """
    return 1 - deal.discount_fraction
