"""The explorer's widgets: they follow the draft and it them, results come from the background, and a browser shows
it all without a network."""

import ast
import base64
import copy
import json
import re
import time
from pathlib import Path

import ipywidgets
import nbformat
import pytest
import yaml
from pages import ROOT, TOKEN, app, browser, lab

from simulator.catalog import examples_folder
from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.limits import Limits
from simulator.planner.designs import Claim
from simulator.scenario import Scenario
from simulator.widgets import explore


@pytest.fixture
def page():
    found = explore()
    found.set("workload.duration_s", 120.0)
    return found


def tab(page, title):
    """The children of a result tab, opened."""
    place = list(page._results.titles).index(title)
    page._results.selected_index = place
    return page._results.children[place].children


def text(widgets):
    return "".join(x.value for x in widgets if isinstance(x, ipywidgets.HTML))


def ended(job, status="done"):
    assert job is not None and job.wait(240) and job.status == status, job.problem


def test_nothing_else_imports_ipywidgets():
    found = []
    for path in [*(ROOT / "simulator").rglob("*.py"), *(ROOT / "calibration").rglob("*.py")]:
        names = [a.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        if any(name.split(".")[0] == "ipywidgets" for name in names):
            found.append(path.parent.name)
    assert set(found) == {"widgets"}


def test_sliders_preview_and_panels_follow_each_other(page):
    page._panels.selected_index = 3  # topology
    editor = page._editors["deployments", 0, "replicas"][1]
    assert editor.value == "2" and "34% of the highest" in page._card.value
    page.slider("deployments.0.replicas").value = 5
    assert page.scenario.deployments[0].replicas == 5 and editor.value == "5"
    assert "14% of the highest" in page._card.value
    editor.value = "1"
    assert page.slider("deployments.0.replicas").value == 1 and "69% of the highest" in page._card.value
    page.slider("workload.rate_rps").value = 500.0
    assert "Overloaded at 500 requests/s" in page._card.value
    page.slider("deployments.0.engine.max_num_seqs").value = 64
    assert page.scenario.deployments[0].engine.max_num_seqs == 64
    page.slider("deployments.0.engine.max_num_seqs").value = ""
    assert page.scenario.deployments[0].engine.max_num_seqs is None
    with pytest.raises(ServelabError, match="'slo.ttft_s' has no slider"):
        page.slider("slo.ttft_s")


def test_preview_names_its_error_and_trust(page):
    assert (
        "typically 3% (TPOT) and 9% (TTFT) from simulation" in page._card.value
        and "step times: roofline" in page._card.value
    )


def test_undo_redo_and_presets(page):
    before = page.scenario
    page.slider("deployments.0.replicas").value = 7
    page._undo.click()
    assert page.scenario == before and page.slider("deployments.0.replicas").value == 2
    page._redo.click()
    assert page.scenario.deployments[0].replicas == 7
    page._preset.value = "kubernetes"
    assert page.scenario.path is not None and page._preset.value == ""
    page._undo.click()
    assert page.scenario.path is None


def test_faults_stand_on_the_page(page):
    page._panels.selected_index = 5  # SLO
    editor = page._editors["slo", "ttft_s"][1]
    editor.value = "fast"
    assert "slo.ttft_s: &#x27;fast&#x27; is not a number" in page._fault.value and page.scenario.slo.ttft_s == 1.0
    editor.value = "-1"
    assert "slo.ttft_s" in page._card.value and "greater than 0" in page._card.value
    assert page.simulate() is None and "greater than 0" in page._fault.value
    editor.value = "0.5"
    assert page._fault.value == "" and page.scenario.slo.ttft_s == 0.5
    with pytest.raises(ServelabError, match="'slo.ttft' is not in the form"):
        page.set("slo.ttft", 1)


def test_nonsense_in_a_field_with_a_slider_is_said_and_never_kept_as_good(page):
    page._panels.selected_index = 0
    rate = page._editors["workload", "rate_rps"][1]
    page._panels.selected_index = 2
    seqs = page._editors["deployments", 0, "engine", "max_num_seqs"][1]
    page._panels.selected_index = 3
    replicas = page._editors["deployments", 0, "replicas"][1]
    for editor, good in ((rate, "16"), (seqs, "128"), (replicas, "2")):
        for value in ("0", "-1", "nan", "inf", "1e308", "1e12", "1.5", "true", "", "2024-99-99"):
            editor.value = value
            said = page._fault.value + page._card.value
            assert "Error" not in said, (editor.description, value, said)
            if value in ("0", "-1", "nan", "inf", "1e308", "1e12", "true", "2024-99-99"):
                assert "sl-say" in page._fault.value or "On average" not in page._card.value, (value, said)
            editor.value = good
            assert page._fault.value == "" and "On average within" in page._card.value, (editor.description, value)
    page.set("deployments.0.replicas", 50)
    assert page.slider("deployments.0.replicas").value == 50


def test_unexpected_faults_are_said(page, monkeypatch):
    monkeypatch.setattr("simulator.widgets.form.preview", lambda *_: 1 / 0)
    page.slider("deployments.0.replicas").value = 7
    assert "no preview: ZeroDivisionError" in page._card.value
    monkeypatch.setattr(page.draft, "undo", lambda: 1 / 0)
    page._undo.click()
    assert "ZeroDivisionError: division by zero" in page._fault.value


def test_a_trace_can_be_opened(tmp_path):
    (tmp_path / "t.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.0,374,44\n2023-11-16 18:17:04.0,396,109\n"
    )
    mapping = Scenario.load(examples_folder() / "default.yaml").to_mapping() | {
        "workload": {"source": "trace", "path": "t.csv"}
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(mapping))
    page = explore(tmp_path / "s.yaml")
    assert "mean TPOT" in page._card.value
    with pytest.raises(ServelabError, match="no slider"):
        page.slider("workload.rate_rps")
    page.set("workload.rate_rps", 3.0)
    assert page.slider("workload.rate_rps").value == 3.0
    page._undo.click()
    ended(page.simulate())
    page._panels.selected_index = 0
    page._editors["workload", "source"][1].value = "poisson"
    assert page.slider("workload.rate_rps").value == 4.0


def test_members_of_unions_bring_their_editors(page):
    page._panels.selected_index = 4
    assert ("deployments", 0, "autoscaler", "metrics") not in page._editors
    page._editors["deployments", 0, "autoscaler", "kind"][1].value = "hpa"
    assert (
        page._panels.selected_index == 4
        and "concurrency" in page._editors["deployments", 0, "autoscaler", "metrics"][1].value
    )
    assert page.scenario.deployments[0].autoscaler.kind == "hpa"


def test_a_run_its_tabs_and_the_comparison(page):
    ended(page.simulate())
    assert page.result.counts()["completed"] > 100 and not page._go[0].disabled
    assert list(page._results.titles) == ["Summary", "Latency", "Over time", "Cost"]
    assert "meets SLO: yes" in text(tab(page, "Summary")) and page.result.stamp in text(tab(page, "Summary"))
    assert text(tab(page, "Latency")).count("<svg") == 3
    assert type(tab(page, "Over time")[1]).__name__ == "JupyterChart"
    assert "instance-hour" in text(tab(page, "Cost"))
    page._pin.click()
    page.slider("deployments.0.replicas").value = 1
    ended(page.simulate())
    assert page._results.titles[-1] == "A and B" and page._results.selected_index == 4
    shown = text(tab(page, "A and B"))
    assert "Paired request by request" in shown and "TTFT, mean" in shown and shown.count("<svg") == 3
    assert f"A: {page.pinned.stamp}; B: {page.outcome.stamp}" in shown
    page.slider("workload.rate_rps").value = 4.0
    ended(page.simulate())
    assert "Not paired" in text(tab(page, "A and B")) and "95 % interval" in text(tab(page, "A and B"))
    page.slider("workload.rate_rps").value = 16.0
    ended(page.simulate())
    assert "computed before" in page._says.value


def test_a_stages_tab_where_there_is_a_path():
    page = explore(examples_folder() / "microservices.yaml")
    page.set("workload.duration_s", 60.0)
    ended(page.simulate())
    assert "Path" in page._results.titles and text(tab(page, "Path")).count("<svg") == 2


def test_cancel_keeps_what_is_reached(page):
    page.set("workload.duration_s", 360_000.0)
    page.slider("workload.rate_rps").value = 30.0
    page._work.limits = Limits(requests=10**8)
    job = page.simulate()
    assert page.simulate() is None and page._go[0].disabled and not page._stop.disabled
    page._stop.click()
    assert job.wait(120) and job.status == "cancelled"
    assert page.job is job and not page._go[0].disabled


def test_capacity_and_plan(page):
    ended(page.capacity())
    assert "highest rate within SLO" in text(tab(page, "Capacity")) and "<svg" in text(tab(page, "Capacity"))
    page._choices.value, page._probability.value = "replicas: [1, 2, 3]", 0.5
    ended(page.plan())
    shown = tab(page, "Plan")
    assert "plan: replicas=" in text(shown) and "<svg" in text(shown)
    shown[-1].click()
    assert page.scenario.deployments[0].replicas == page.outcome.found.best.fields["replicas"]
    page._choices.value = "replicas: [1"
    assert page.plan() is None and "choices is not YAML" in page._fault.value


def test_a_file_restores_the_state(page, tmp_path):
    page.slider("deployments.0.replicas").value = 3
    page.seed = 4
    ended(page.simulate())
    page.pin()
    (tmp_path / "state.yaml").write_text(page.to_text())
    again = explore(tmp_path / "state.yaml")
    assert again.scenario.to_mapping() == page.scenario.to_mapping() and again.seed == 4
    ended(again.job)
    assert again.pinned.stamp == page.pinned.stamp
    assert re.search(r'download="servelab.yaml" href="data:text/yaml;base64,', page._download.value)
    with pytest.raises(ServelabError, match="no such file"):
        explore(tmp_path / "none.yaml")


def saved(page):
    return yaml.safe_load(base64.b64decode(re.search(r'base64,([^"]+)', page._download.value).group(1)))


def test_a_state_keeps_the_seed_of_the_pinned_run(page):
    page.set("workload.duration_s", 30.0)
    page.seed = 1
    ended(page.simulate())
    page.pin()
    page.seed = 7
    assert saved(page)["seed"] == 7 and saved(page)["pinned_seed"] == 1
    again = explore()
    again.load(page.to_text())
    ended(again.job)
    assert again.pinned.stamp == page.pinned.stamp and again.seed == 7
    again.load(explore().to_text())
    assert again.pinned is None  # a state without one
    again.load(page.to_text())
    ended(again.job)
    again.load(page.scenario.to_yaml())
    assert again.pinned is not None  # a scenario is no state


def test_a_pinned_run_waits_for_no_job(page):
    state = page.to_text() + "pinned_seed: 0\npinned: " + json.dumps(page.scenario.to_mapping())
    page.set("workload.duration_s", 100_000.0)
    before, job = page.scenario, page.simulate()
    with pytest.raises(ServelabError, match="a job is running"):
        page.load(state)
    page.cancel()
    assert job.wait(60) and page.scenario == before


def test_a_pinned_run_that_is_cancelled_is_not_pinned(page):
    pinned = page.scenario.to_mapping()
    pinned["workload"]["duration_s"] = 100_000.0
    page.load(page.to_text() + "pinned: " + json.dumps(pinned))
    page.cancel()
    assert page.job.wait(60) and page.pinned is None and "nothing is pinned" in page._says.value


def test_the_gpu_is_a_list_of_the_catalog_or_a_text(page):
    assert len(page.slider("deployments.0.gpu").options) > 10
    page.slider("deployments.0.gpu").value = "l4"
    assert page.scenario.deployments[0].gpu == "l4" and "no preview" not in page._card.value
    page.set("deployments.0.gpu", "h100x")
    assert "not in the catalog" in page._card.value and page._stop.button_style == ""
    again = explore()
    state = yaml.safe_load(again.to_text())
    state["scenario"]["deployments"][0]["gpu"] = "mine"
    again.load(yaml.safe_dump(state))
    assert isinstance(again.slider("deployments.0.gpu"), ipywidgets.Combobox)


def test_the_yaml_panel_follows_unless_it_is_edited(page):
    page._panels.selected_index = 7
    area, apply = page._panels.children[7].children
    page.slider("deployments.0.replicas").value = 9
    assert "replicas: 9" in area.value
    apply.click()
    assert page.scenario.deployments[0].replicas == 9
    area, apply = page._panels.children[7].children
    area.value = area.value.replace("replicas: 9", "replicas: 3")
    page.slider("workload.rate_rps").value = 8.0
    assert "replicas: 3" in area.value
    apply.click()
    assert page.scenario.deployments[0].replicas == 3


def test_the_buttons_come_back_when_drawing_fails(page, monkeypatch):
    monkeypatch.setattr(cards, "outcome_card", lambda result: 1 / 0)
    ended(page.simulate())
    assert "ZeroDivisionError" in page._fault.value and not page._go[0].disabled and page._stop.disabled


def test_a_search_leaves_the_run_alone(page):
    page.set("workload.duration_s", 30.0)
    assert page._results.layout.display == "none"
    ended(page.simulate())
    result = page.result
    ended(page.plan({"replicas": [1, 2]}, Claim(probability=0.5)))
    assert page.result is result and not page._pin.disabled and page._results.layout.display == ""
    assert list(page._results.titles) == ["Summary", "Latency", "Over time", "Cost", "Plan"]
    assert page._results.selected_index == 4 and "plan: replicas=" in text(tab(page, "Plan"))
    assert "meets SLO" in text(tab(page, "Summary"))
    page.pin()
    assert page.pinned.found is result


def test_old_widgets_are_closed(page):
    live = ipywidgets.widgets.widget._instances
    page.set("workload.duration_s", 30.0)
    page._panels.selected_index = 0
    page._history(page.draft.undo)
    page._history(page.draft.redo)
    ended(page.simulate())
    before = len(live)
    for _ in range(10):
        page._history(page.draft.undo)
        page._history(page.draft.redo)
    assert len(live) == before
    page._show_outcome()
    assert len(live) == before


def test_the_list_of_deployments(page):
    mapping = page.scenario.to_mapping()
    mapping["deployments"].append(mapping["deployments"][0] | {"name": "other"})
    page.load(yaml.safe_dump(mapping))
    assert page._which.value == 0 and page._which.layout.display == ""
    page._which.value = 1
    page.set("deployments.1.name", "second")
    assert page._which.options[1] == ("second", 1) and page._which.value == 1
    page.load(explore().to_text())
    assert page._which.value == 0 and page._which.layout.display == "none"


def test_uploads_are_checked(page):
    import datetime

    def send(content):
        page._upload.value = (
            {
                "name": "x.yaml",
                "type": "text/yaml",
                "size": len(content),
                "content": memoryview(content),
                "last_modified": datetime.datetime.now(datetime.UTC),
            },
        )

    send(Scenario.load(examples_folder() / "monolith.yaml").to_yaml().encode())
    assert page.scenario.path is not None
    before = page.scenario
    send(b"\xff\xfe")
    assert "not text in UTF-8" in page._fault.value and page.scenario == before
    send(b"workload: {source: nothing}")
    assert "expected one of" in page._fault.value and page.scenario == before


def test_a_page_for_others_is_bounded():
    page = explore(for_others=True)
    page.set("workload.duration_s", 1e6)
    ended(page.simulate(), "failed")
    assert "more than the 500,000" in page._fault.value
    page._guarded(
        lambda: page.load(Scenario.load(examples_folder() / "default.yaml").to_yaml().replace("llama-3.1-8b", "/etc"))
    )
    assert "/etc" in page._fault.value and "reads no files" in page._fault.value
    page.set("deployments.0.model", "/etc")
    for start in (page.simulate, page.capacity, page.plan):
        page._fault.value = ""
        assert start() is None and "reads no files" in page._fault.value
    mine = Scenario.of(page.draft.mapping)
    for start in (page._work.run, page._work.capacity):
        with pytest.raises(ServelabError, match="reads no files"):
            start(mine, 0)


TRACE = {"source": "trace", "path": "/etc/passwd"}


@pytest.mark.parametrize(
    "path, value",
    [
        ("workload", TRACE),
        ("prices", {"file": "/etc/passwd"}),
        ("deployments.0.model", "/etc"),
        ("deployments.0.step_time", {"kind": "profile", "name": "/etc/x.json"}),
    ],
)
def test_a_page_for_others_reads_no_files(path, value):
    page = explore(for_others=True)
    state = yaml.safe_load(page.to_text())
    state["pinned"] = copy.deepcopy(state["scenario"])
    at = state["pinned"]["deployments"][0] if "." in path else state["pinned"]
    at[path.rpartition(".")[2]] = value
    with pytest.raises(ServelabError, match="reads no files"):
        page.load(yaml.safe_dump(state))
    assert page.job is None
    page._fault.value = ""
    ended(page.plan({path: [value]}), "failed")
    assert "reads no files" in page._fault.value


def test_choices_of_a_plan_are_checked_before_anything_is_built(page):
    for choices, message in [
        ({"replicas": 3}, "choices: replicas must be a list of values such as .1, 2., got 3"),
        ({"traffic": ["x"]}, "choices: traffic must be numbers above 0, got 'x'"),
        ({1: [2]}, "choices: 1 is not the name of a field"),
        ({}, "expected fields"),
        (
            {"replicas": list(range(1, 200)), "max_num_seqs": list(range(1, 200))},
            "39,601 combinations, more than the 20,000",
        ),
    ]:
        with pytest.raises(ServelabError, match=message):
            page._work.plan(page.scenario, 0, choices, Claim())
    others = explore(for_others=True)
    assert others.plan({"replicas": list(range(1, 600))}) is None and "more than the 500" in others._fault.value
    ended(others.plan({"replicas": [1, 1000]}), "failed")
    assert "1,000 pods, more than the 256" in others._fault.value


def test_what_people_enter_is_escaped():
    assert "<script>" not in cards.say("<script>alert(1)</script>") + cards.table(
        ["<script>"], [["<script>"]]
    ) + cards.tiles([("<script>", "<script>")])
    page = explore()
    page.set("deployments.0.name", "<img src=x onerror=alert(1)>")
    page.set("workload.duration_s", 60.0)
    ended(page.simulate())
    for title in page._results.titles:
        assert "<img" not in text(tab(page, title)), title


# ---- in a browser ---------------------------------------------------------------------------------------------


def shot(tab, name):
    import os

    if os.environ.get("SERVELAB_SCREENSHOTS"):
        tab.page.screenshot(path=Path(os.environ["SERVELAB_SCREENSHOTS"]) / f"{name}.png", full_page=True)


def try_out(tab):
    """Move a slider, simulate, look at the chart that answers the mouse."""
    page = tab.page
    cost = page.locator(".sl-tile:has-text('USD/hour') b").first
    cost.wait_for(timeout=120_000)
    before = cost.inner_text()
    page.locator(".widget-slider .noUi-handle").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "b => [...document.querySelectorAll('.sl-tile')].some(t => t.innerText.startsWith('USD/hour') && "
        "!t.innerText.includes(b))",
        arg=before,
        timeout=20_000,
    )
    page.click("button:has-text('simulate')")
    page.locator(".sl-tile:has-text('TTFT p99') b").first.wait_for(timeout=120_000)
    page.click(".lm-TabBar-tab:has-text('Over time')")
    drawn = page.locator(".vega-embed canvas, .vega-embed svg").first
    drawn.wait_for(timeout=60_000)
    size = drawn.bounding_box()
    assert size["width"] > 300 and size["height"] > 200
    assert tab.outside == [] and tab.errors == []


def test_explorer_in_jupyterlab(tmp_path):
    cell = "from simulator.widgets import explore\npage = explore()\npage.set('workload.duration_s', 120.0)\npage"
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell)],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )
    nbformat.write(book, tmp_path / "x.ipynb")
    with browser() as open_tab, lab(tmp_path) as address:
        tab = open_tab()
        tab.page.goto(f"{address}/doc/tree/x.ipynb?token={TOKEN}")
        tab.page.locator(".jp-Notebook .jp-InputArea-editor").first.click(timeout=60_000)
        tab.page.wait_for_timeout(2000)
        tab.page.keyboard.press("Shift+Enter")
        try_out(tab)
        shot(tab, "explorer-lab")


def test_the_app_wants_a_token_and_keeps_visitors_apart(tmp_path):
    with browser() as open_tab, app(tmp_path) as address:
        stranger = open_tab()
        stranger.page.goto(address)
        assert stranger.page.locator(".sl-tile").count() == 0 and "planner" not in stranger.page.content()
        one, other = open_tab(), open_tab()
        one.page.goto(f"{address}/?token={TOKEN}", timeout=120_000)
        other.page.goto(f"{address}/?token={TOKEN}", timeout=120_000)
        cost = [t.page.locator(".sl-tile:has-text('USD/hour') b").first for t in (one, other)]
        for c in cost:
            c.wait_for(timeout=120_000)
        same = cost[1].inner_text()
        try_out(one)
        assert cost[1].inner_text() == same != cost[0].inner_text()  # what one enters the other does not see
        assert other.outside == []
        shot(one, "explorer-app")
        log = tmp_path / "log"
        started = log.read_text().count("Kernel started")
        for tab in (one, other):
            tab.page.unroute_all()  # or the beacon of a page that goes may be lost behind the routes of `browser`
            tab.page.context.unroute_all()
            tab.page.close(run_before_unload=True)
        deadline = time.monotonic() + 20
        while log.read_text().count("Kernel shutdown") < 2 and time.monotonic() < deadline:
            stranger.page.wait_for_timeout(200)
        assert log.read_text().count("Kernel shutdown") == 2 <= started  # a closed page takes its kernel along
