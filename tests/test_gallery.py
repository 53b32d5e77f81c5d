"""Every chart: drawn light and dark, small, with units, in colours of the palette, and without any network."""

import json
import os
import re
import runpy
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from gallery import ABOUT, GALLERY, HELPERS, curve, run, sweep_table
from gallery import _volume as volume
from pages import chromium

from simulator import charts
from simulator.charts.curves import crossing_of
from simulator.charts.gantt import MOST, batches, kind_of
from simulator.charts.heat import BRIGHT, DARK, cells
from simulator.charts.theme import PALETTE, spec
from simulator.charts.timeline import replicas_over_time
from simulator.errors import ServelabError

# quantities that have no unit: shares and counts
PLAIN = {
    "share",
    "within SLO",
    "share within SLO",
    "share of requests",
    "share of completed requests",
    "requests",
    "replicas",
    "variance / mean of counts",
}
LOADS = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?https?:|\bimport\s*\(?\s*["']https?:""")


@pytest.fixture(scope="module")
def specs():
    """Each chart of the gallery with its corner, light."""
    return {name: spec(charts.signed(make(), run().stamp)) for name, make in GALLERY.items()}


def walk(node):
    """All mappings in a specification."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def titles(found):
    """Titles of the axes of quantities as they are drawn, of the chart compiled to Vega; None for one without."""
    vega = vl_convert.vegalite_to_vega(found)
    kinds = {n["name"]: n.get("type") for n in walk(vega) if "name" in n and ("range" in n or "domain" in n)}
    axes = [axis for n in walk(vega) for axis in n.get("axes", [])]
    return [
        a.get("title")
        for a in axes
        if a.get("labels") is not False and kinds[a["scale"]] not in ("band", "point", "ordinal")
    ]


def test_the_gallery_has_every_chart():
    assert {name.partition(":")[0] for name in GALLERY} == set(charts.__all__) - HELPERS


@pytest.mark.parametrize("name", GALLERY)
def test_chart(name, specs):
    found = specs[name]
    for dark in (False, True):
        svg = charts.to_svg(charts.signed(GALLERY[name](), run().stamp), dark)
        assert svg.startswith("<svg") and run().stamp in svg and "NaN" not in svg and "undefined" not in svg
        assert not re.search(r">[\d.]+e[+-]\d+<", svg)  # numbers of axes have no exponent
    assert ABOUT in json.dumps(found) or name == "fit_sheet"
    assert not any("url" in node for node in walk({k: v for k, v in found.items() if k != "datasets"}))
    assert sum(map(len, found["datasets"].values())) < 3000
    used = titles(found)
    assert used or name.startswith("heat_map")
    for axis in used:
        assert axis and (axis in PLAIN or re.search(r"\[[^\]]+\]$", axis)), axis
    body = json.dumps({k: v for k, v in found.items() if k not in ("config", "$schema")})
    colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", body))
    assert colours <= {*PALETTE, DARK, BRIGHT}


@pytest.mark.parametrize("name", GALLERY)
def test_the_language_is_one_that_both_versions_of_vega_lite_know(name, specs):
    old = min(v for v in vl_convert.get_vegalite_versions() if v.startswith("5."))
    text = {**specs[name], "$schema": "https://vega.github.io/schema/vega-lite/v5.json"}
    assert vl_convert.vegalite_to_svg(text, vl_version=old).startswith("<svg")


def test_tooltips_show_no_raw_numbers(specs):
    for name, found in specs.items():
        for node in walk(found):
            tips = node.get("tooltip")
            for tip in tips if isinstance(tips, list) else []:
                exempt = tip["field"] in ("seeds", "batch", "start")
                assert tip.get("type") != "quantitative" or tip.get("format") or exempt, (name, tip)


def test_a_million_requests_never_reach_the_browser():
    rng = np.random.default_rng(0)
    n = 1_000_000
    arrival = np.sort(rng.uniform(0, 86_400, n))
    requests = pd.DataFrame({"arrival_s": arrival, "end_s": arrival + 1})
    table = pd.DataFrame(
        {
            "window_s": np.arange(86_400.0),
            "deployment": 0,
            "replica": 0,
            "busy_s": 0.5,
            "steps": 50,
            "running_mean": 3.0,
            "waiting_mean": 0.0,
            "kv_mean": 0.2,
        }
    )
    begun = np.sort(rng.uniform(0, 86_000, 5000))
    instances = pd.DataFrame({"deployment": 0, "start_s": begun, "end_s": begun + 300})
    steps = pd.DataFrame(
        {
            "deployment": 0,
            "replica": 0,
            "step": np.arange(n),
            "start_s": np.arange(n) * 0.01,
            "end_s": np.arange(n) * 0.01 + 0.009,
            "prefill_tokens": 0,
            "decode_seqs": 5,
            "running": 5,
            "waiting": 0,
        }
    )
    points = pd.DataFrame({"metric": "TTFT", "unit": "s", "measured": arrival + 1, "simulated": arrival + 2})
    made = [
        charts.timeline(requests, table, np.ones(n, bool), instances=instances, brush=True),
        charts.gantt(steps),
        charts.gantt(steps, window_s=(0.0, 1e6)),
        charts.measured_simulated(points),
        charts.paired_cdf({"a": {"measured": [arrival], "simulated": [arrival]}}),
    ]
    for chart in made:
        assert sum(map(len, spec(chart)["datasets"].values())) < 3200


def test_replicas_over_time_are_the_most_of_each_window():
    frame = pd.DataFrame({"deployment": [0, 0, 0], "start_s": [0.0, 2.5, 3.0], "end_s": [10.0, 3.0, 3.4]})
    found = replicas_over_time(frame, np.arange(0.0, 11.0))
    assert found["value"].tolist() == [1, 1, 2, 2, 1, 1, 1, 1, 1, 1]  # one goes at 3 s as the next comes


def test_one_replica_all_the_time_needs_no_panel():
    r = run()
    one = r.instances.iloc[:1].assign(start_s=0.0, end_s=1e9)
    args = (r.requests, r.timeline, r.good())
    assert "paid for" not in json.dumps(spec(charts.timeline(*args, instances=one)))
    assert "paid for" in json.dumps(spec(charts.timeline(*args, instances=r.instances)))
    assert "params" not in json.dumps(spec(charts.timeline(*args)))


def test_gantt_shows_the_batches_of_the_log():
    steps = run().steps
    found, words = batches(steps, 0, 1, (5.0, 6.0))
    mine = steps[steps["replica"] == 1]
    assert len(found) == ((mine["end_s"] > 5.0) & (mine["start_s"] < 6.0)).sum()
    assert words == f"replica 1: {len(found)} of {len(mine):,} batches"
    many, words = batches(steps, 0, 1, (0.0, 1e3))
    assert len(many) == MOST and f"the first of {len(mine):,} in the window" in words
    kinds = kind_of(pd.DataFrame({"prefill_tokens": [5, 5, 0], "decode_seqs": [0, 2, 2]}))
    assert kinds.tolist() == ["prefill only", "mixed", "decode only"]
    sampled, words = batches(steps[steps["step"] % 64 == 0])
    assert "some are left out" in words and len(sampled)


def test_gantt_says_what_is_wrong():
    steps = run().steps
    with pytest.raises(ServelabError, match=r'steps="full"'):
        charts.gantt(steps.iloc[:0])
    with pytest.raises(
        ServelabError, match=r"deployment 0, replica 7: steps have \(deployment, replica\) \(0, 0\), \(0, 1\)"
    ):
        charts.gantt(steps, replica=7)
    with pytest.raises(ServelabError, match="no batches from 900 s to 901 s, but from"):
        charts.gantt(steps, window_s=(900.0, 901.0))


def test_cells_of_a_heat_map():
    table = sweep_table()
    found = cells(table, "replicas", "gpu", "tpot_s_p99").set_index(["gpu", "replicas"])
    one = table[(table["gpu"] == "h100") & (table["replicas"] == 4)]
    assert found.loc[("h100", 4), "value"] == pytest.approx(one["tpot_s_p99"].mean())
    assert found.loc[("l4", 1), "failed"] and "does not fit" in found.loc[("l4", 1), "error"]
    assert not found.loc[("l4", 2), "meets"] and found.loc[("h100", 16), "meets"]
    svg = charts.to_svg(charts.heat_map(table, "replicas", "gpu", "tpot_s_p99"))
    assert "cannot run" in svg and "SLO missed" in svg and "TPOT p99 [ms]" in svg


def test_heat_maps_refuse_what_they_cannot_show():
    table = sweep_table()
    with pytest.raises(ServelabError, match="no column 'tpot_p99'"):
        charts.heat_map(table, "replicas", "gpu", "tpot_p99")
    wide = pd.concat([table.assign(budget=b) for b in (512, 2048)])
    wide = wide[["budget", *table.columns]]
    with pytest.raises(
        ServelabError,
        match=r"rows also differ in 'budget' \(2 values\): choose one, such as table\[table\['budget'\] == 512\]",
    ):
        charts.heat_map(wide, "replicas", "gpu", "tpot_s_p99")


def test_a_heat_map_of_a_real_sweep():
    from systems import scenario

    from simulator.planner.runs import Runs
    from simulator.planner.sweep import sweep

    table = sweep(scenario(), {"replicas": [1, 2], "max_num_seqs": [2, 8]}, runs=Runs("serial"))
    found = cells(table, "replicas", "max_num_seqs", "ttft_s_p99")
    assert len(found) == 4 and found["value"].notna().all()
    svg = charts.to_svg(charts.heat_map(table, "replicas", "max_num_seqs", "ttft_s_p99"))
    assert ("SLO missed" in svg) == (~found["meets"]).any() and "TTFT p99 [" in svg


def test_break_even_is_where_the_lines_cross():
    assert crossing_of(volume(), "tokens") == pytest.approx(2500 / 900, rel=1e-6)
    assert "2.78 billion" in json.dumps(spec(GALLERY["break_even"]()))
    apart = volume().assign(value=lambda f: f["value"] + 1e5 * (f["line"] == "API"))
    assert "none in this range" in json.dumps(spec(charts.break_even(apart, "tokens", "tokens [1e9]", "cost [USD]")))
    with pytest.raises(ServelabError, match="expected two lines, got 1"):
        charts.break_even(volume()[lambda f: f["line"] == "API"], "tokens", "tokens [1e9]", "cost [USD]")


def test_the_knee_and_the_limit_have_their_values():
    text = json.dumps(spec(GALLERY["capacity_curve"]()), ensure_ascii=False)
    assert "knee 11.6 request/s" in text and "highest within SLO 12.8 request/s" in text and "SLO 50 ms" in text
    text = json.dumps(spec(GALLERY["capacity_curve:throughput"]()))
    assert f"knee {180 * 11.6:,.0f} token/s" in text
    with pytest.raises(ServelabError, match="no column 'goodput'"):
        charts.capacity_curve(curve(), 1.0, 1.0, "tpot_s_p99", None, over="goodput")


def test_points_in_the_band_are_counted():
    table = pd.DataFrame(
        {"metric": "TTFT", "unit": "s", "measured": [1.0, 2.0, 4.0, np.nan], "simulated": [1.05, 2.5, 3.7, 1.0]}
    )
    assert "TTFT: 67% of 3 in the band" in json.dumps(spec(charts.measured_simulated(table)))
    with pytest.raises(ServelabError, match="none of 1 rows has both"):
        charts.measured_simulated(table.iloc[3:])
    with pytest.raises(ServelabError, match="no column 'unit'"):
        charts.measured_simulated(table.drop(columns="unit"))
    with pytest.raises(ServelabError, match="1 groups without any latency"):
        charts.paired_cdf({"a": {"measured": [np.array([np.nan])]}})


def test_the_widget_has_vega_in_it_and_the_look():
    pytest.importorskip("anywidget")
    chart = GALLERY["capacity_curve"]()
    made = charts.interactive(chart, dark=True)
    assert isinstance(made, alt.JupyterChart)
    assert made.spec["config"]["background"] == spec(chart, dark=True)["config"]["background"]
    source = made._esm
    assert len(source) > 500_000 and not LOADS.search(source)
    assert not re.search(r"""(?:from|import)\s*\(?\s*["']https?://""", source)  # no module of elsewhere


def test_without_anywidget_the_command_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ServelabError, match="pip install anywidget"):
        charts.interactive(GALLERY["fan"]())


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def opened(browser, path: Path):
    """A page on a file, what it asked of the network, and the errors of its scripts."""
    tab, asked, wrong = browser.new_page(viewport={"width": 1400, "height": 1000}), [], []
    here = lambda url: url.startswith(("file://", "blob:", "data:"))
    tab.route("**/*", lambda r: r.continue_() if here(r.request.url) else (asked.append(r.request.url), r.abort()))
    tab.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: wrong.append(str(e)))
    tab.goto(path.as_uri())
    return tab, asked, wrong


@pytest.mark.parametrize("name", GALLERY)
def test_files_are_drawn_in_a_browser_without_a_network(name, browser, tmp_path):
    path = charts.save(charts.signed(GALLERY[name](), run().stamp), tmp_path / "chart.html", dark=True)
    assert not LOADS.search(path.read_text())
    tab, asked, wrong = opened(browser, path)
    tab.wait_for_selector("#vega-chart svg, #vega-chart canvas", timeout=20_000)
    box = tab.locator("#vega-chart svg").first.bounding_box()
    assert box["width"] > 250 and box["height"] > 80 and asked == [] and wrong == []
    tab.close()


def test_dragging_over_the_arrivals_zooms_the_other_panels(browser, tmp_path):
    tab, asked, wrong = opened(
        browser, charts.save(charts.signed(GALLERY["timeline:brush"](), "corner"), tmp_path / "t.html")
    )
    tab.wait_for_selector("#vega-chart svg")
    axes = lambda: tab.evaluate(
        "[...document.querySelectorAll('.role-axis-label')].map(a => [...a.querySelectorAll('text')].map(t => "
        "t.textContent))"
    )
    before = axes()
    frames = [f.bounding_box() for f in tab.locator("#vega-chart svg path.background").all()]
    box = next(f for f in frames if 85 < f["height"] < 95)  # the arrivals
    tab.mouse.move(box["x"] + 160, box["y"] + 40)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 260, box["y"] + 45, steps=5)
    tab.mouse.up()
    tab.wait_for_timeout(400)
    after = axes()
    assert after[0] == before[0] and before[-2][-1] == "32"  # all of the time above, and below at first
    assert 9 <= float(after[-2][0]) < float(after[-2][-1]) <= 18
    if os.environ.get("SERVELAB_SCREENSHOT"):
        tab.screenshot(path=os.environ["SERVELAB_SCREENSHOT"])
    assert asked == [] and wrong == []
    tab.close()


def test_the_widget_is_drawn_without_a_network(browser, tmp_path):
    pytest.importorskip("anywidget")
    made = charts.interactive(GALLERY["timeline:brush"]())
    state = {
        k: getattr(made, k)
        for k in made.keys
        if k
        in (
            "spec",
            "debounce_wait",
            "max_wait",
            "local_tz",
            "embed_options",
            "_vl_selections",
            "_params",
            "_chart_state",
            "_js_watch_plan",
            "_js_to_py_updates",
            "_py_to_js_updates",
        )
    }
    page = """<div id="at"></div><script type="module">
      const state = STATE;
      const model = {get: k => state[k], set: (k, v) => {state[k] = v}, save_changes() {}, on() {}, off() {}};
      const url = URL.createObjectURL(new Blob([SOURCE], {type: "text/javascript"}));
      const found = await import(url);
      await found.default.render({model, el: document.getElementById("at")});
    </script>"""
    quoted = lambda text: json.dumps(text).replace("</", "<\\/")
    path = tmp_path / "widget.html"
    path.write_text(page.replace("STATE", quoted(state)).replace("SOURCE", quoted(made._esm)), encoding="utf-8")
    tab, asked, wrong = opened(browser, path)
    tab.wait_for_selector("#at svg, #at canvas", timeout=20_000)
    assert asked == [] and wrong == []
    tab.close()


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs/charts.md").read_text()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "example.py").write_text(block)
        runpy.run_path(str(tmp_path / "example.py"))
    assert {"timeline.png", "timeline.svg", "timeline.html"} <= {p.name for p in tmp_path.iterdir()}
    for name in set(charts.__all__):
        assert f"`{name}" in text, name
