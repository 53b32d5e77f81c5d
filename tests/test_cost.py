import datetime as dt

import numpy as np
import pandas as pd
import pytest
from builders import instances, meta, requests
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simulator.catalog import load_prices
from simulator.cost.bill import bill, cost_summary
from simulator.errors import ServelabError
from simulator.pricing.machines import Unit, cheapest, peak, stretches, units
from simulator.pricing.prices import Offer, PricesConfig, offers
from simulator.results.result import Result

COLUMNS = ["provider", "instance_type", "gpu", "gpu_count", "region"]
COLUMNS += ["on_demand_usd_per_hour", "spot_usd_per_hour", "as_of", "source"]
ROWS = [
    ("big", "h8", "h100_sxm", 8, "us", 40.0, 16.0, "2026-09-06", "list A"),
    ("small", "h1", "h100_sxm", 1, "eu", 6.0, None, "2026-09-01", "list B"),
    ("small", "h8", "h100_sxm", 8, "eu", 44.0, None, None, "list B"),
    ("big", "a8", "a100_sxm", 8, "us", 20.0, None, "2026-09-06", "list A"),
]
TABLE = pd.DataFrame(ROWS, columns=COLUMNS)


def run(spans, gpus=1, columns=None, **changes):
    tables = {"instances": instances(spans, gpus=gpus), "requests": requests(10) if columns is None else columns}
    return Result.from_columns(meta(**changes), tables)


def test_whole_instances():
    # 7 replicas for an hour: a machine of eight (40) is cheaper than seven of one (42)
    lines = bill(run([(0, 3600)] * 7), table=TABLE)
    assert lines["usd"].tolist() == [40.0]
    assert lines["item"].tolist() == ["chat: big h8 us (8 x h100_sxm), on demand, 1 at peak"]
    # 6 replicas: six of one (36)
    assert bill(run([(0, 3600)] * 6), table=TABLE)["usd"].sum() == 36.0
    # one H100 from a provider that sells eight costs eight
    assert bill(run([(0, 1800)], prices={"provider": "big"}), table=TABLE)["usd"].sum() == 20.0


def test_combination():
    lines = bill(run([(0, 3600)] * 9, prices={"provider": "small"}), table=TABLE)
    assert dict(zip(lines["item"].str.split(" ").str[2], lines["usd"], strict=True)) == {"h8": 44.0, "h1": 6.0}


def test_replicas_stay_on_one_machine_where_one_is_large_enough():
    four = units(offers(TABLE, "h100_sxm", PricesConfig()), gpus=4)
    assert {u.offer.instance_type for u in four} == {"h8"}
    assert [u.slots for u in four] == [2, 2]
    sixteen = units(offers(TABLE, "h100_sxm", PricesConfig(provider="big")), gpus=16)
    assert [(u.machines, u.usd_per_hour) for u in sixteen] == [(2, 80.0)]


def test_machine_is_held_from_first_start_to_last_end():
    # two replicas of 4 GPUs share a machine: 0-3600 and 1800-5400 are one machine for 1.5 hours
    lines = bill(run([(0, 3600), (1800, 5400)], gpus=4, prices={"provider": "big"}), table=TABLE)
    assert lines["quantity"].tolist() == [1.5]
    # given back in between
    lines = bill(run([(0, 3600), (7200, 10800)], gpus=4, prices={"provider": "big"}), table=TABLE)
    assert lines["quantity"].tolist() == [2.0]


spans = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)).map(lambda p: (p[0], p[0] + p[1])), max_size=25)


@given(spans, st.integers(1, 4))
def test_rented_time_covers_the_replicas(intervals, slots):
    plan = [Unit(Offer("p", "i", "g", slots, "", 1.0, "", ""), 1, slots)] * -(-peak(intervals) // slots)
    seconds = [sum(b - a for a, b in spans) for spans in stretches(plan, intervals)]
    work = sum(b - a for a, b in intervals)
    assert work <= sum(seconds) * slots <= work * slots
    if slots == 1:
        assert sum(seconds) == work


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(1, 8), st.integers(1, 100)), min_size=1, max_size=4))
def test_cheapest_is_the_cheapest(replicas, sold):
    choices = [Unit(Offer("p", f"i{i}", "g", n, "", float(usd), "", ""), 1, n) for i, (n, usd) in enumerate(sold)]
    found = cheapest(choices, replicas)
    assert sum(u.slots for u in found) >= replicas

    best = {0: 0.0}
    for n in range(1, replicas + 1):
        best[n] = min(best[max(0, n - u.slots)] + u.usd_per_hour for u in choices)
    single = min(-(-replicas // u.slots) * u.usd_per_hour for u in choices)
    assert sum(u.usd_per_hour for u in found) == best[replicas] <= single


def test_answers_by_hand():
    columns = requests(1000, rate=1.0, service_s=0.1, generated=11)
    columns["end_s"][:250] += 10.0  # TPOT far above the limit: not good
    answers = cost_summary(
        run([(0, 3600)], columns=columns, prices={"provider": "big"}), table=TABLE, today=dt.date(2026, 9, 16)
    ).set_index("metric")
    assert answers.loc["usd", "value"] == 40.0
    assert answers.loc["usd_per_hour", "value"] == 40.0
    assert answers.loc["usd_per_1m_output_tokens", "value"] == pytest.approx(40 / 11_000 * 1e6)
    assert answers.loc["usd_per_1m_total_tokens", "value"] == pytest.approx(40 / 111_000 * 1e6)
    assert answers.loc["usd_per_1m_output_tokens_within_slo", "value"] == pytest.approx(40 / (750 * 11) * 1e6)
    assert answers.loc["usd_per_1k_requests", "value"] == pytest.approx(40.0)
    assert set(answers["source"]) == {"list A"}
    assert set(answers["staleness_days"]) == {10.0}


def test_an_hour_is_one_of_the_run_from_its_start():
    """A pod for the last of 24 hours, at 2.40 an hour: 0.10 an hour of the day."""
    late = run(
        [(82_800, 86_400)],
        columns=requests(10, arrival_s=np.full(10, 80_000.0)),
        prices={"usd_per_gpu_hour": {"h100_sxm": 2.4}, "cluster_usd_per_hour": 0.1},
    )
    answers = cost_summary(late).set_index("metric")["value"]
    assert answers["usd"] == pytest.approx(2.4 + 2.4)
    assert answers["usd_per_hour"] == pytest.approx(0.2) and answers["usd_per_month"] == pytest.approx(146.0)


def test_no_good_token_costs_without_limit():
    answers = cost_summary(run([(0, 60)], slo={"ttft_s": 1e-6}), table=TABLE).set_index("metric")
    assert np.isinf(answers.loc["usd_per_1m_output_tokens_within_slo", "value"])


def test_own_price():
    lines = bill(run([(0, 3600)] * 3, gpus=2, prices={"usd_per_gpu_hour": {"h100_sxm": 1.5}}), table=TABLE)
    assert lines[["quantity", "unit", "unit_price_usd", "usd"]].to_numpy().tolist() == [[6.0, "GPU-hour", 1.5, 9.0]]
    assert "your own price" in lines["source"].iloc[0]


def test_spot():
    assert bill(run([(0, 3600)], prices={"purchase": "spot"}), table=TABLE)["usd"].sum() == 16.0


def test_missing_price_names_the_nearest_and_the_override():
    for bad in (PricesConfig(provider="smal"), PricesConfig(purchase="spot", provider="small")):
        with pytest.raises(ServelabError, match=r"or name a price list with it in prices\.file"):
            offers(TABLE, "h100_sxm", bad)
    with pytest.raises(ServelabError, match=r"'h100_nvl'.*'h100_sxm'.*prices\.usd_per_gpu_hour\.h100_nvl"):
        offers(TABLE, "h100_nvl", PricesConfig())
    with pytest.raises(ServelabError, match="no spot price for GPU 'a100_sxm': set prices.purchase to on_demand"):
        offers(TABLE, "a100_sxm", PricesConfig(purchase="spot"))
    with pytest.raises(ServelabError, match=r"prices.provider='smal'.*did you mean 'small'"):
        offers(TABLE, "h100_sxm", PricesConfig(provider="smal"))


@pytest.mark.parametrize("bad", [{"purchase": "lease"}, {"usd_per_gpu_hour": {"h100_sxm": -1}}, {"region_": "x"}])
def test_bad_config(bad):
    with pytest.raises(ValidationError):
        PricesConfig(**bad)


def test_end_that_never_came_is_the_end_of_the_run():
    one = run([(0, np.nan)], prices={"usd_per_gpu_hour": {"h100_sxm": 3600.0}})
    assert bill(one)["quantity"].iloc[0] * 3600 == pytest.approx(one.requests["end_s"].max())


def test_own_price_of_an_unknown_gpu_is_not_ignored():
    with pytest.raises(ServelabError, match=r"prices\.usd_per_gpu_hour\.h100_smx: .*did you mean 'h100_sxm'"):
        bill(run([(0, 60)], prices={"usd_per_gpu_hour": {"h100_smx": 1.0}}), table=TABLE)
    assert bill(run([(0, 3600)], prices={"usd_per_gpu_hour": {"H100": 2.0}}), table=TABLE)["usd"].sum() == 2.0


def test_shipped_prices():
    lines = bill(run([(0, 3600)] * 2))
    assert len(load_prices()) and lines["as_of"].str.match(r"\d{4}-\d\d-\d\d").all() and lines["usd"].sum() > 0
