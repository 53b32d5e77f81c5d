import numpy as np
import pandas as pd
import pytest
from builders import instances, meta, requests
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.catalog import load_prices
from simulator.cost.bill import bill, cost_summary
from simulator.cost.ledger import ledger, shares
from simulator.cost.lines import unbilled
from simulator.errors import ServelabError
from simulator.pricing.api import ApiPrice, api_cost_usd, break_even, find_api_price
from simulator.pricing.commitments import find_commitment, upfront_usd
from simulator.pricing.onpremises import OnPremises, cumulative, monthly
from simulator.pricing.price_table import own_rows, price_list
from simulator.pricing.prices import PricesConfig
from simulator.records.tables import State, empty
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate

DAY = 86_400.0
COLUMNS = ["provider", "instance_type", "gpu", "gpu_count", "region"]
COLUMNS += ["on_demand_usd_per_hour", "spot_usd_per_hour", "as_of", "source"]
TABLE = pd.DataFrame(
    [
        ("aws", "p8", "h100_sxm", 8, "us", 40.0, 16.0, "2026-09-06", "list A"),
        ("lab", "h1", "h100_sxm", 1, "eu", 6.0, None, "2026-09-01", "list B"),
    ],
    columns=COLUMNS,
)


def day(prices, **extra):
    """Two pods on one machine of eight for a day, a third from 12:00 to 18:00 that takes 30 minutes to start.

    The first two are busy a quarter and half of the time, the third two of its six hours; 1 of 10 requests fails.
    """
    columns = requests(1000, service_s=1.0, generated=100, arrival_s=np.linspace(0, DAY - 10, 1000))
    columns["end_s"] = np.minimum(columns["end_s"], DAY)
    columns["deployment"][:] = 0
    columns["state"][::10] = State.FAILED
    pods = instances(
        [(0, DAY), (0, DAY), (43_200, 64_800)], busy_s=[21_600, 43_200, 7_200], prefill_busy_s=[7_200, 14_400, 2_400]
    )
    starts = empty("starts", 1)
    starts["replica"][:], starts["phase"][:] = 2, "image_pull"
    starts["start_s"][:], starts["end_s"][:] = 43_200, 45_000
    timeline = empty("timeline", 3)
    timeline["window_s"], timeline["replica"], timeline["busy_s"] = (
        np.array([0.0, 0.0, 46_800.0]),
        np.arange(3),
        np.array([21_600.0, 43_200.0, 7_200.0]),
    )
    tables = {"instances": pods, "requests": columns, "starts": starts, "timeline": timeline}
    return Result.from_columns(meta(prices=prices, **extra), tables)


def test_a_day_by_hand():
    """One p8 for 24 hours: 960.00 USD, 192 GPU-hours at 5.00. Held: 24 + 24 + 6 = 54 hours."""
    run = day({"provider": "aws"})
    lines = ledger(run, table=TABLE, window_s=0).set_index("item")
    hours = lines["quantity"].round(6).to_dict()
    # busy 20 hours: 900 of 1000 requests completed, and all have the same tokens
    assert hours == {"serving": 18.0, "failed work": 2.0, "cold start": 0.5, "idle": 33.5, "headroom": 138.0}
    assert set(lines["unit_price_usd"].round(9)) == {5.0}
    assert lines["usd"].round(2).to_dict() == {
        "serving": 90.0,
        "failed work": 10.0,
        "cold start": 2.5,
        "idle": 167.5,
        "headroom": 690.0,
    }
    assert round(bill(run, table=TABLE)["usd"].sum(), 2) == round(lines["usd"].sum(), 2) == 960.0
    answers = cost_summary(run, table=TABLE).set_index("metric")["value"]
    assert answers["usd_per_hour"] == pytest.approx(40.0)
    assert answers["usd_per_month"] == pytest.approx(29_200.0) and answers["usd_per_year"] == pytest.approx(350_400.0)
    assert answers["usd_per_request"] == pytest.approx(960 / 900)
    # a third of the busy time is prefill
    assert answers["usd_per_1m_input_tokens_by_gpu_time"] == pytest.approx(320 / 90_000 * 1e6)
    assert answers["usd_per_1m_output_tokens_by_gpu_time"] == pytest.approx(640 / 90_000 * 1e6)


def test_windows_of_the_same_day():
    run = day({"provider": "aws"})
    hourly = ledger(run, table=TABLE)
    assert hourly["time_s"].nunique() == 24
    assert hourly["usd"].sum() == pytest.approx(960.0, abs=1e-6)
    assert hourly.groupby("time_s")["usd"].sum().to_numpy() == pytest.approx(np.full(24, 40.0))
    cold = hourly[hourly["item"] == "cold start"]
    assert cold["time_s"].tolist() == [43_200.0] and cold["quantity"].tolist() == [0.5]


def test_everything_else_has_a_line():
    prices = {
        "provider": "aws",
        "storage_gb": 730.0,
        "storage_usd_per_gb_month": 0.1,
        "egress_bytes_per_token": 5e3,
        "egress_usd_per_gb": 0.09,
        "cluster_usd_per_hour": 0.1,
        "licence_usd_per_gpu_hour": 0.5,
        "cpu_usd_per_core_hour": 0.04,
        "memory_usd_per_gib_hour": 0.005,
        "overflow": {"input_usd_per_1m_tokens": 1.0, "output_usd_per_1m_tokens": 4.0},
        "usd_per_gpu_hour": {"l4": 0.8},
    }
    stages = [
        {"name": "rag", "kind": "service", "cpu": 4.0, "memory_bytes": 8 * 2**30, "replicas": 2},
        {"name": "rerank", "kind": "service", "gpu": "l4"},
    ]
    run = day(prices, stages=stages)
    run.requests.loc[run.requests.index[1:101], "state"] = int(State.REJECTED)
    lines = ledger(run, table=TABLE, window_s=0)
    found = {(r.deployment, r.item): round(r.usd, 6) for r in lines.itertuples()}
    assert found["", "storage"] == round(730 * 24 / 730 * 0.1, 6)
    assert found["", "cluster fee"] == 2.4
    assert found["chat", "licences"] == 192 * 0.5
    assert found["stage rag", "CPU"] == round(8 * 24 * 0.04, 6) and found["stage rag", "memory"] == round(
        16 * 24 * 0.005, 6
    )
    assert found["stage rerank", "GPU"] == round(24 * 0.8, 6)
    # failed are every tenth; of the rows 1 to 100 ten more were failed and are rejected now
    assert found["", "API input tokens"] == round(100 * 100 / 1e6 * 1.0, 6)
    assert found["", "API output tokens"] == round(100 * 100 / 1e6 * 4.0, 6)
    done = int((run.requests["state"] == State.COMPLETED).sum())
    assert found["", "egress"] == round(done * 100 * 5e3 / 1e9 * 0.09, 6)
    assert lines["usd"].sum() == pytest.approx(bill(run, table=TABLE)["usd"].sum(), abs=1e-9)
    assert unbilled(run, PricesConfig(**prices)) == []
    missing = unbilled(run, PricesConfig())
    assert (
        any("8 CPU cores" in x for x in missing)
        and any("l4" in x for x in missing)
        and any("turned away" in x for x in missing)
    )


def test_tranches():
    """One machine committed for a year, one on demand, the rest on the spot market, a machine of eight each."""
    mix = [
        {"purchase": "committed", "instances": 1, "commitment": "1yr_no_upfront"},
        {"purchase": "on_demand", "instances": 1},
        {"purchase": "spot"},
    ]
    spans = [(0, 7200)] * 24  # three machines of eight
    run = Result.from_columns(
        meta(prices={"provider": "aws", "purchase": mix}), {"instances": instances(spans), "requests": requests(10)}
    )
    lines = bill(run, table=TABLE)
    assert lines["usd"].round(6).tolist() == [round(2 * 40 * 0.68, 6), 80.0, 32.0]
    assert lines["item"].str.contains("committed 1yr_no_upfront").tolist() == [True, False, False]
    # used or not: a committed machine that nobody needed costs the same, and is headroom
    idle = [{"purchase": "committed", "instances": 3, "discount_fraction": 0.5, "term_months": 12}]
    run = Result.from_columns(
        meta(prices={"provider": "aws", "purchase": idle}),
        {"instances": instances(spans[:8]), "requests": requests(10)},
    )
    assert bill(run, table=TABLE)["usd"].sum() == pytest.approx(3 * 2 * 20.0)
    book = ledger(run, table=TABLE, window_s=0).set_index("item")["quantity"]
    assert book["headroom"] == pytest.approx(2 * 16.0)
    deal = find_commitment("aws", "3yr_partial_upfront")
    assert upfront_usd(40.0, deal) == pytest.approx(40 * 0.45 * 730 * 36 * 0.5)
    with pytest.raises(ServelabError, match=r"commitment '2yr' of aws.*1yr_no_upfront"):
        find_commitment("aws", "2yr")


def test_commitments_of_what_never_ran_are_paid():
    deal = {"purchase": "committed", "instances": 2, "discount_fraction": 0.5, "term_months": 12}
    prices = {"provider": "aws", "purchase": [deal, {"purchase": "on_demand"}]}
    pools = [{"name": "g", "gpu": "h100", "gpus_per_node": 8, "nodes": 0, "max_nodes": 2}]
    for extra in ({}, {"scenario": {"nodes": {"pools": pools}}}):
        tables = {"instances": instances([]), "requests": requests(10, arrival_s=np.full(10, DAY - 5))}
        run = Result.from_columns(meta(prices=prices, **extra), tables)
        paid = bill(run, table=TABLE)
        assert paid["usd"].sum() == pytest.approx(2 * 24 * 20.0, rel=1e-3)
        book = ledger(run, table=TABLE)
        assert book["usd"].sum() == pytest.approx(paid["usd"].sum()) and set(book["item"]) == {"headroom"}


def test_provider_counts_the_time():
    """aws: by the second, a minute at least; what runs to the end of the run is not rounded."""
    spans = [(0, 3600.0), (100, 130.5)]
    run = Result.from_columns(
        meta(prices={"provider": "aws"}), {"instances": instances(spans, gpus=8), "requests": requests(10)}
    )
    assert bill(run, table=TABLE)["quantity"].sum() == pytest.approx((3600 + 60) / 3600)
    other = Result.from_columns(
        meta(prices={"provider": "lab"}), {"instances": instances(spans), "requests": requests(10)}
    )
    assert bill(other, table=TABLE)["quantity"].sum() == pytest.approx((3600 + 30.5) / 3600)


def test_shares_add_up():
    columns = requests(100, generated=50)
    columns["tenant"] = np.arange(100) % 2
    columns["generated_tokens"][1::2] = 150
    pods = instances([(0, 3600)], busy_s=1800.0, prefill_busy_s=600.0)
    run = Result.from_columns(
        meta(prices={"provider": "lab"}, tenants=["a", "b"]), {"instances": pods, "requests": columns}
    )
    found = shares(run, "tenant", table=TABLE).set_index("group")
    assert found["usd"].sum() == pytest.approx(6.0)
    # prefill (a third) is even, decode goes 1 : 3
    assert found.loc["a", "share"] == pytest.approx(1 / 6 + 2 / 3 / 4)
    with pytest.raises(ServelabError, match="shares by 'user'"):
        shares(run, "user")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 5000)), min_size=1, max_size=8),
    st.sampled_from(["aws", "lab"]),
    st.sampled_from([0.0, 600.0, 3600.0]),
)
def test_ledger_is_the_bill(spans, provider, window_s):
    pods = instances([(a, a + b) for a, b in spans], busy_s=[b / 3 for _, b in spans], prefill_busy_s=0.0)
    run = Result.from_columns(meta(prices={"provider": provider}), {"instances": pods, "requests": requests(20)})
    book = ledger(run, table=TABLE, window_s=window_s)
    assert book["usd"].sum() == pytest.approx(bill(run, table=TABLE)["usd"].sum(), abs=0.005)
    assert (book["quantity"] >= 0).all()


def test_real_runs_balance():
    for name in ("kubernetes", "default"):
        run = simulate(Scenario.load(f"examples/{name}.yaml", ["workload.duration_s=300"]))
        book = ledger(run)
        assert book["usd"].sum() == pytest.approx(bill(run)["usd"].sum(), abs=0.005)
        assert {"serving"} <= set(book["item"])
        if name == "kubernetes":
            assert "headroom" in set(book["item"])


def test_own_price_file(tmp_path):
    head = "provider,instance_type,gpu,gpu_count,region,on_demand_usd_per_hour,spot_usd_per_hour,unit,as_of,source\n"
    (tmp_path / "mine.csv").write_text(head + "me,box,H100,4,home,8.0,,USD/h per instance,2026-11-01,contract 7\n")
    rows = own_rows(PricesConfig(file="mine.csv"), tmp_path)
    assert rows[0]["gpu"] == "h100_sxm"
    assert len(price_list(rows)) == len(load_prices()) + 1
    s = Scenario.of(
        {
            "workload": {"source": "azure_conversation", "rate_rps": 1.0, "duration_s": 60},
            "prices": {"file": "mine.csv", "provider": "me"},
            "deployments": [{"model": "llama-3.1-8b", "gpu": "h100", "engine": {"max_model_len": 32768}}],
        },
        tmp_path,
    )
    line = bill(simulate(s)).iloc[0]
    assert line["unit_price_usd"] == 8.0 and line["source"] == "contract 7"
    for text, message in (
        (head + "me,box,H100,4,home,8.0,,EUR/h,2026-11-01,x\n", r"line 2: unit is 'EUR/h'; all prices are in USD"),
        (head + "me,box,H100,4,home,cheap,,USD,2026-11-01,x\n", r"line 2: on_demand_usd_per_hour is 'cheap'"),
        (
            head + "\nme,box,H100,4,home,-8.0,,USD,2026-11-01,x\n",
            r"mine.csv', line 3: on_demand_usd_per_hour is '-8.0', expected",
        ),
        (head + "me,box,H100,4,home,inf,,USD,2026-11-01,x\n", r"line 2: on_demand_usd_per_hour is 'inf'"),
        (head + "me,box,H100,,home,8.0,,USD,2026-11-01,x\n", r"line 2: gpu_count is '', expected a number"),
        (
            head + "me,box,H100,0,home,8.0,,USD,2026-11-01,x\n",
            r"line 2: gpu_count is '0', expected a whole number, at least 1",
        ),
        (head + "me,box,H100,2.5,home,8.0,,USD,2026-11-01,x\n", r"line 2: gpu_count is '2.5', expected a whole number"),
        (head + "me,box,H100,4,home,8.0,,USD,2026-11,x\n", r"line 2: as_of is '2026-11', expected a date YYYY-MM-DD"),
        (head + "me,box,H100,4,home,8.0,,USD,,x\n", r"line 2: as_of is '', expected a date"),
        (head + ",box,H100,4,home,8.0,,USD,2026-11-01,x\n", r"line 2: provider is empty"),
        (head + "me,,H100,4,home,8.0,,USD,2026-11-01,x\n", r"line 2: instance_type is empty"),
        (head + "me,box,H900,4,home,8.0,,USD,2026-11-01,x\n", r"line 2: gpu: 'H900' is not in the catalog"),
        ("a,b\n1,2\n", "lacks the columns provider"),
    ):
        (tmp_path / "mine.csv").write_text(text)
        with pytest.raises(ServelabError, match=message):
            own_rows(PricesConfig(file="mine.csv"), tmp_path)


def test_own_row_without_a_region_replaces_that_of_the_table(tmp_path):
    old = load_prices()
    old = old[old["region"].isna()].iloc[0]
    head = "provider,instance_type,gpu,gpu_count,region,on_demand_usd_per_hour,spot_usd_per_hour,as_of,source\n"
    (tmp_path / "mine.csv").write_text(
        head + f"{old['provider']},{old['instance_type']},{old['gpu']},{old['gpu_count']},,99.0,,2026-11-01,mine\n"
    )
    found = price_list(own_rows(PricesConfig(file="mine.csv"), tmp_path))
    same = found[(found["provider"] == old["provider"]) & (found["instance_type"] == old["instance_type"])]
    assert same["on_demand_usd_per_hour"].tolist() == [99.0] and len(found) == len(load_prices())


def test_tokens_found_in_the_cache_of_the_api_have_a_line():
    """100 requests of 100 prompt tokens turned away, a quarter of these tokens cached."""
    api = {"input_usd_per_1m_tokens": 1.0, "output_usd_per_1m_tokens": 4.0, "cached_input_usd_per_1m_tokens": 0.1}
    found = {}
    for share in (0.0, 0.25):
        run = day({"provider": "aws", "overflow": api | {"cached_share": share}})
        run.requests.loc[run.requests.index[1:101], "state"] = int(State.REJECTED)
        lines = ledger(run, table=TABLE)
        assert lines["usd"].sum() == pytest.approx(bill(run, table=TABLE)["usd"].sum(), abs=1e-9)
        found[share] = lines.groupby("item")["usd"].sum().filter(like="API").round(9).to_dict()
        said = unbilled(run, PricesConfig(overflow=api | {"cached_share": share}))
        assert any("prices.overflow.cached_share" in x for x in said) == (share == 0)
    assert found[0.0] == {"API input tokens": 0.01, "API output tokens": 0.04}
    assert found[0.25] == {"API input tokens": 0.0075, "API cached tokens": 0.00025, "API output tokens": 0.04}
    with pytest.raises(ValueError, match="cached_share"):
        PricesConfig(overflow=api | {"cached_share": 1.5})


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"purchase": [{"purchase": "committed", "instances": 1}]}, "need commitment or discount_fraction"),
        ({"purchase": [{"purchase": "on_demand", "instances": 2}]}, "last tranche"),
        ({"storage_gb": 10}, "storage_gb and storage_usd_per_gb_month need each other"),
        ({"overflow": {"input_usd_per_1m_tokens": 1.0}}, "give model, or"),
    ],
)
def test_bad_prices(bad, message):
    with pytest.raises(ValueError, match=message):
        PricesConfig(**bad)


def test_api_and_break_even():
    price = find_api_price("llama-3.1-8b-instruct")
    assert (price.input_usd_per_1m, price.cached_input_usd_per_1m) == (0.05, 0.025)
    with pytest.raises(ServelabError, match="no API price for 'lama'"):
        find_api_price("lama")
    per = api_cost_usd(5e6, 0, 1e6, ApiPrice("m", 2.0, 8.0, None, "", "")) / 6e6
    # machines of 100 USD for each 100M tokens: after the step at 200M the API costs more for good
    steps = lambda volume: 100.0 * max(1, -(-volume // 100e6))
    found = break_even(steps, per, 3e9)
    assert found is not None and per * found == pytest.approx(steps(found), rel=0.02)
    assert all(per * v > steps(v) for v in np.linspace(found * 1.02, 3e9, 500))


@given(st.floats(1, 1e4), st.floats(0.01, 100))
def test_break_even_of_a_fixed_price(usd, per):
    found = break_even(lambda v: usd, per, 4 * usd / per)
    assert found == pytest.approx(usd / per, rel=1e-6)


def test_servers_of_ones_own():
    c = OnPremises(
        servers=1,
        gpus_per_server=8,
        capex_usd=240_000,
        residual_usd=24_000,
        life_years=4,
        interest=0.1,
        server_w=8_000,
        pue=1.25,
        usd_per_kwh=0.12,
        hosting_usd_per_kw_month=120,
        maintenance_share=0.05,
        staff_usd_per_month=3_000,
    )
    lines = monthly(c).set_index("item")["usd"]
    crf = 0.1 * 1.1**4 / (1.1**4 - 1)
    assert lines["capital"] == pytest.approx((240_000 - 24_000 / 1.1**4) * crf / 12)
    assert lines["electricity"] == pytest.approx(8 * 730 * 1.25 * 0.12) and lines["hosting"] == 960.0
    frame, month = cumulative(c, 40 * 730, 60)
    running = lines.drop("capital").sum()
    assert month == int(np.ceil(240_000 / (29_200 - running)))
    assert frame.loc[month - 2, "owned_usd"] > frame.loc[month - 2, "rented_usd"]
    assert cumulative(c, 1_000, 60)[1] is None
