"""The notebooks have one form, run to their end under other parameters, say what their runs show, and their charts
are drawn offline."""

import ast
import json
import re
import time

import nbformat
import papermill
import pytest
from notebook import FOLDER, charts, executed, sentences, shown, specs
from pages import TOKEN, browser, lab

from simulator.scenario import Scenario
from simulator.workload import AzureConversation, generate, write_trace

NAMES = sorted(p.name for p in FOLDER.glob("*.ipynb"))
LONGEST = 40  # lines of a cell
WIDEST = 110  # characters of a line of code
SMALL_TOUR = dict(DURATION_S=120.0, GPUS=["h100"], REPLICAS=[2, 3, 4], PROBABILITY=0.6, GROWTH=[0.9, 1.1], WORLDS=3)


@pytest.fixture(scope="module")
def quickstart():
    return well_formed(executed("01_quickstart.ipynb", DURATION_S=300.0))


def well_formed(notebook):
    """``notebook`` after a look at what it shows: signed charts, each followed by a sentence from its run."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for cell, following in zip(code, [*code[1:], None], strict=True):
        for spec in specs(cell):
            text = json.dumps(spec)
            assert re.search(r"scenario [0-9a-f]{8}", text), cell.source
            assert following is not None and sentences(following), cell.source
            words = sentences(following)
            assert re.search(r"[\w)%*]\.\**(\s|$)", words) and re.search(r"\d", words), words
            assert "nan" not in words.split() and not re.search(r"\d\.\d{6,}", words), words
    assert "$" not in shown(notebook)  # two of them are a formula to JupyterLab
    return notebook


def raw(name):
    return nbformat.read(FOLDER / name, as_version=4)


def test_the_notebooks_are_here():
    assert NAMES[:4] == ["00_tour.ipynb", "01_quickstart.ipynb", "02_workloads.ipynb", "03_calibrate_vllm.ipynb"]
    assert NAMES[4:6] == ["04_topologies.ipynb", "05_vllm_vs_traditional_serving.ipynb"]
    assert NAMES[6:8] == ["06_capacity_planning.ipynb", "07_cost_tradeoffs.ipynb"]


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_kept(name):
    for cell in raw(name).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("name", NAMES)
def test_all_have_one_form(name):
    cells = raw(name).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert "**What you will learn:**" in cells[0].source
    assert [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])] == [1]
    headings = [
        line for c in cells if c.cell_type == "markdown" for line in c.source.splitlines() if line.startswith("## ")
    ]
    assert headings[0] == "## Run" and headings[-2:] == ["## Export", "## What next"]
    assert len({c.id for c in cells}) == len(cells)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_says_what_it_is(name):
    cell = raw(name).cells[1]
    known = papermill.inspect_notebook(str(FOLDER / name))
    assigned = [target.id for node in ast.parse(cell.source).body for target in node.targets]
    assert sorted(known) == sorted(assigned) and {"OUT"} <= set(known)
    for parameter in known.values():
        assert len(parameter["help"]) > 5, parameter
        if isinstance(ast.literal_eval(parameter["default"]), int | float) and parameter["name"] != "SEED":
            assert re.search(r"\[.+\]$", parameter["help"]), f"{parameter['name']} has no unit"


@pytest.mark.parametrize("name", NAMES)
def test_code_is_short_enough_to_read(name):
    for cell in raw(name).cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= LONGEST and max(map(len, lines)) <= WIDEST, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    cells = [c.source for c in raw(name).cells if c.cell_type == "markdown"]
    links = [link for source in cells for link in re.findall(r"\]\(([^)]+)\)", source)]
    assert [link for link in links if link.endswith(".ipynb")] and [link for link in links if link.endswith(".md")]
    for link in links:
        assert (FOLDER / link).is_file(), link
    assert name == "00_tour.ipynb" or "00_tour.ipynb" in links


def test_the_tour_leads_to_all():
    last = raw("00_tour.ipynb").cells[-1].source
    assert all(name in last for name in NAMES[1:])


def test_an_unknown_parameter_is_refused():
    with pytest.raises(KeyError, match="DURATION"):
        executed("01_quickstart.ipynb", DURATION=300.0)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(papermill.PapermillExecutionError) as failed:
        executed("00_tour.ipynb", GPU="h100_sxn")
    assert failed.value.ename == "ServelabError" and "did you mean 'h100_sxm'" in failed.value.evalue


@pytest.mark.parametrize(
    "parameters",
    [
        {"PILOT_RPS": 2.0},
        {"GPU": "a100", "GPUS": ["a100", "h100"], "PILOT_RPS": 1.0, "PRODUCTION_RPS": 12.0, "SEED": 3},
    ],
    ids=["h100", "a100"],
)
def test_tour(parameters, tmp_path):
    found = well_formed(executed("00_tour.ipynb", **{**SMALL_TOUR, **parameters, "OUT": str(tmp_path / "out")}))
    text = shown(found)
    assert "meets SLO: " in text and "of its requests within the SLO" in text
    assert f"One {parameters.get('GPU', 'h100')} takes" in text and "the knee" in text
    assert "The median request spends" in text and "1M output tokens within SLO cost" in text
    assert "The plan is **" in text or "No design holds" in text
    assert "Trust is **roofline**" in text and "it is **measured**" in text
    assert len(charts(found)) == 6
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"designs.csv", "records", "report.html", "scenario.yaml"}
    assert Scenario.load(tmp_path / "out" / "scenario.yaml").deployments[0].replicas in (2, 3, 4)


def test_quickstart(quickstart):
    text = shown(quickstart)
    assert "meets SLO: yes" in text and "1M output tokens within SLO cost" in text
    assert "On a100_sxm the mean TTFT is +" in text
    found = charts(quickstart)
    assert len(found) == 4 and all(len(json.dumps(d)) < 400_000 for d in found)
    assert all(d["image/svg+xml"].startswith("<svg") for d in found)


def test_quickstart_on_another_scenario(tmp_path):
    found = executed(
        "01_quickstart.ipynb",
        SCENARIO="../examples/microservices.yaml",
        DURATION_S=120.0,
        OTHER_GPU="l40s",
        SEED=4,
        OUT=str(tmp_path),
    )
    assert "On l40s the mean TTFT is +" in shown(well_formed(found))
    assert (tmp_path / "report.html").is_file() and (tmp_path / "records" / "meta.json").is_file()


def test_workloads_on_a_trace(tmp_path):
    import numpy as np

    table = generate(AzureConversation(rate_rps=4.0, duration_s=900.0), np.random.SeedSequence(5))
    path = write_trace(table, tmp_path / "trace.csv")
    out = tmp_path / "out"
    text = shown(well_formed(executed("02_workloads.ipynb", TRACE=str(path), DURATION_S=120.0, OUT=str(out))))
    assert f"{len(table):,} requests in" in text and "Farthest from the trace" in text
    assert "A mean rate alone does not size a deployment" in text and "The cache finds" in text
    assert Scenario.load(out / "scenario.yaml").workload and (out / "workload.yaml").is_file()


@pytest.mark.parametrize(
    "parameters",
    [
        {"DURATION_S": 120.0, "RATE_RPS": 5.0},
        {"DURATION_S": 60.0, "RATE_RPS": 2.0, "BURST_RPS": 4.0, "GPU": "a100", "SEED": 2},
    ],
    ids=["h100", "a100, no burst"],
)
def test_topologies(parameters, tmp_path):
    found = well_formed(executed("04_topologies.ipynb", **parameters, OUT=str(tmp_path)))
    text = shown(found)
    assert "A guardrail that reads the whole answer" in text
    scaled = "The first decision to scale up came at" in text
    assert scaled or (parameters.get("BURST_RPS") and ("HPA asked for pods" in text or "HPA did not" in text))
    assert len(charts(found)) == 4
    assert Scenario.load(tmp_path / "scenario.yaml").opened_path() is not None


def test_vllm_against_traditional_serving():
    found = well_formed(executed("05_vllm_vs_traditional_serving.ipynb", DURATION_S=60.0, LOADS=[0.5, 8.0]))
    text = shown(found)
    assert (
        "vLLM has the lowest p99 at 2 of 2 loads" in text
        and "With more requests let in and batches of 32 Ray Serve gives" in text
    )
    assert len(charts(found)) == 4


def test_capacity_planning(tmp_path):
    found = well_formed(
        executed(
            "06_capacity_planning.ipynb",
            RATE_RPS=40.0,
            DURATION_S=120.0,
            REPLICAS=[2, 3, 4, 5, 6, 8],
            PROBABILITY=0.7,
            WORLDS=6,
            OUT=str(tmp_path),
        )
    )
    text = shown(found)
    assert "That is the answer of a calculator" in text and "it held the SLO in" in text
    assert "step_time_factor moves p99 TPOT most" in text and "The interval rests on: step times" in text
    assert len(charts(found)) == 4
    assert (tmp_path / "decision.md").read_text().startswith("# Decision record: Which fleet serves 40")


def test_cost_tradeoffs():
    found = well_formed(executed("07_cost_tradeoffs.ipynb", DURATION_S=120.0, LOADS=[0.5, 4, 12]))
    text = shown(found)
    assert "times cheaper because it is used" in text and "The bill and the ledger agree" in text
    assert "J at the best load" in text and "is cheaper than aws on demand from month" in text
    assert len(charts(found)) == 5


def test_calibration_on_recorded_rows(tmp_path):
    book = well_formed(executed("03_calibrate_vllm.ipynb", OUT=str(tmp_path / "out")))
    text = shown(book)
    assert "batches of" in text and "figures are within 5 %" in text and "Runs that were left out are off by" in text
    assert len(charts(book)) == 4 and (tmp_path / "out/profile.json").is_file()
    from simulator import simulate

    assert simulate(Scenario.load(tmp_path / "out/scenario.yaml")).counts()["completed"] == 100


def test_charts_are_drawn_in_jupyterlab_without_a_network(quickstart, tmp_path):
    nbformat.write(quickstart, tmp_path / "run.ipynb")
    with browser() as open_tab, lab(tmp_path) as address:
        tab = open_tab()
        page = tab.page
        page.goto(f"{address}/doc/tree/run.ipynb?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        drawn = "() => document.querySelectorAll('.vega-embed canvas').length"
        deadline = time.monotonic() + 60
        while page.evaluate(drawn) < 2 and time.monotonic() < deadline:
            page.mouse.move(700, 500)
            page.mouse.wheel(0, 700)
            page.wait_for_timeout(400)
        found = page.locator(".vega-embed canvas")
        sizes = [found.nth(i).bounding_box() for i in range(found.count())]
        assert len(sizes) >= 2 and all(s["width"] > 300 and s["height"] > 80 for s in sizes)
        assert [u for u in tab.outside if "vega" in u] == []
        assert page.locator(".vega-embed .error").count() == 0
