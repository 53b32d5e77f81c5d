"""The report of a run: complete, escaped, and without any network."""

import re

import pytest
from pages import chromium
from test_sessions import BASE, LOOP, TALK, scenario

from simulator.errors import ServelabError
from simulator.report import write_report
from simulator.report.html import quantity
from simulator.scenario import Scenario
from simulator.simulation import simulate


@pytest.fixture(scope="module")
def runs():
    talk = {**BASE, "session": TALK, "name": "chat <script>alert(1)</script>", "tenants": {"a&b": 1.0, "c": 1.0}}
    jobs = {**BASE, "name": "jobs", "arrivals": LOOP, "slo": {"deadline_s": 1e4}}
    raw = scenario(talk, jobs, duration_s=100.0).to_mapping()
    return [simulate(Scenario.of(raw), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    return write_report(runs, tmp_path_factory.mktemp("report") / "report.html")


def test_everything_is_in_it(page, runs):
    text = page.read_text()
    plain = (
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
        .replace("&#39;", "'")
        .replace("&#34;", '"')
    )
    first = runs[0]
    reason = first.verdict().partition("because ")[2]
    assert reason[1:] in plain
    for note in first.meta["notes"]:
        assert note in plain
    assert first.stamp.split()[1].rstrip(",") in plain and "Over 2 seeds the SLO is met" in plain
    assert (
        "By class of traffic" in plain
        and "By tenant" in plain
        and "roofline" not in first.meta["deployments"][0]["step_time"]
    )
    summary = first.summary().set_index(["metric", "stat"])["value"]
    assert quantity(first.breakdown()["attainment"][0], "ratio") in plain
    assert summary["arrived", "count"] == len(first.requests) and f"{len(first.requests):,} requests arrived" in plain


def test_it_loads_nothing_and_runs_nothing(page):
    text = page.read_text()
    assert "<script" not in text and "<link" not in text and "@import" not in text
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!#)""", re.sub(r'xlink:href="#[^"]*"|href="#[^"]*"', "", text))
    assert "alert(1)" in text and "a&amp;b" in text


def test_one_seed_has_no_intervals(runs, tmp_path):
    text = write_report(runs[:1], tmp_path / "one.html").read_text()
    assert "±" not in text and "Over 2 seeds" not in text
    with pytest.raises(ServelabError, match="at least one result, got none"):
        write_report([], tmp_path / "none.html")


def test_unknown_price_is_said(tmp_path):
    raw = scenario(BASE, duration_s=20.0).to_mapping()
    raw["prices"] = {"provider": "nobody"}
    text = write_report([simulate(Scenario.of(raw))], tmp_path / "r.html").read_text()
    assert "Unknown: " in text and "nobody" in text


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 420)])
def test_it_opens_from_disk_in_a_browser(page, scheme, width):
    with chromium() as browser:
        tab = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        said = []
        tab.on("request", lambda r: said.append(r.url) if not r.url.startswith("file:") else None)
        tab.on("console", lambda m: said.append(m.text))
        tab.goto(page.as_uri())
        shown = tab.locator("figure svg").evaluate_all(
            "all => all.filter(s => s.getBoundingClientRect().width > 0).length"
        )
        assert said == [] and tab.evaluate("document.documentElement.scrollWidth") <= width
        assert shown == len(tab.query_selector_all("figure")) >= 6


def test_a_report_of_a_path_shows_where_the_time_goes(tmp_path):
    from systems import scenario as small

    raw = small(router={"kind": "least_outstanding"}).to_mapping() | {"path": "microservices"}
    text = write_report([simulate(Scenario.of(raw))], tmp_path / "r.html").read_text()
    assert text.count("Where the time of a request goes") >= 2 and "guardrail_out" in text
