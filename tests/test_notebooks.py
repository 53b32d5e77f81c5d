"""The notebooks run to their end, say what their runs show, and their charts are drawn without a network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from notebook import FOLDER, charts, executed, shown

from simulator.workload import AzureConversation, generate, write_trace

NAMES = sorted(p.name for p in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def quickstart():
    return executed("01_quickstart.ipynb", DURATION_S=300.0)


def test_the_notebooks_are_here():
    assert NAMES[:3] == ["01_quickstart.ipynb", "02_workloads.ipynb", "03_calibrate_vllm.ipynb"]
    assert NAMES[3:5] == ["04_topologies.ipynb", "05_vllm_vs_traditional_serving.ipynb"]
    assert NAMES[5:7] == ["06_capacity_planning.ipynb", "07_cost_tradeoffs.ipynb"]


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_kept(name):
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_quickstart(quickstart):
    text = shown(quickstart)
    assert (
        "meets SLO: yes" in text
        and "- Request " in text
        and "A million output tokens within SLO cost" in text
    )
    assert "On a100_sxm the mean TTFT is +" in text
    found = charts(quickstart)
    assert len(found) == 4 and all(len(json.dumps(d)) < 400_000 for d in found)
    assert all(d["image/svg+xml"].startswith("<svg") for d in found)


def test_workloads_on_a_trace(tmp_path):
    import numpy as np

    table = generate(AzureConversation(rate_rps=4.0, duration_s=900.0), np.random.SeedSequence(5))
    path = write_trace(table, tmp_path / "trace.csv")
    text = shown(executed("02_workloads.ipynb", TRACE=str(path), DURATION_S=120.0))
    assert f"{len(table):,} requests in" in text and "Farthest from the trace" in text
    assert "A mean rate alone does not size a deployment" in text and "The cache finds" in text


def test_topologies():
    found = executed("04_topologies.ipynb", DURATION_S=120.0, RATE_RPS=5.0)
    text = shown(found)
    assert (
        "A guardrail that reads the whole answer" in text and "The first decision to scale up came at" in text
    )
    assert len(charts(found)) == 3


def test_vllm_against_traditional_serving():
    found = executed("05_vllm_vs_traditional_serving.ipynb", DURATION_S=60.0, LOADS=[0.5, 8.0])
    text = shown(found)
    assert (
        "vLLM has the lowest p99 at 2 of 2 loads" in text
        and "With more requests let in and batches of 32 Ray Serve gives" in text
    )
    assert len(charts(found)) == 4


def test_capacity_planning():
    found = executed(
        "06_capacity_planning.ipynb",
        RATE_RPS=40.0,
        DURATION_S=120.0,
        REPLICAS=[2, 3, 4, 5, 6, 8],
        PROBABILITY=0.7,
    )
    text = shown(found)
    assert "That is the answer of a calculator" in text and "it held the SLO in" in text
    assert "step_time_factor moves p99 TPOT most" in text and "The interval rests on: step times" in text
    assert len(charts(found)) == 4


def test_cost_tradeoffs():
    found = executed("07_cost_tradeoffs.ipynb", DURATION_S=120.0, LOADS=[0.5, 4, 12])
    text = shown(found)
    assert "times cheaper because it is used" in text and "The bill and the ledger agree" in text
    assert "J at the best load" in text and "is cheaper than aws on demand from month" in text
    assert len(charts(found)) == 4


def test_calibration_on_recorded_rows(tmp_path):
    book = executed("03_calibrate_vllm.ipynb", OUT=str(tmp_path / "out"))
    text = shown(book)
    assert (
        "batches of" in text
        and "figures are within 5 %" in text
        and "Runs that were left out are off by" in text
    )
    assert len(charts(book)) == 4 and (tmp_path / "out/profile.json").is_file()


def test_charts_are_drawn_in_jupyterlab_without_a_network(quickstart, tmp_path):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    nbformat.write(quickstart, tmp_path / "run.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
           "--IdentityProvider.token=t", f"--ServerApp.root_dir={tmp_path}", "--allow-root"]  # fmt: skip
    folder = {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
    }
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(lab, stdout=log, stderr=log, env={**os.environ, **folder})
        try:
            _wait(f"http://127.0.0.1:{port}/api?token=t", tmp_path / "log")
            with api.sync_playwright() as play:
                browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                tab = browser.new_page(viewport={"width": 1400, "height": 1000})
                outside = []
                tab.route(
                    "**/*",
                    lambda r: (
                        r.continue_()
                        if "127.0.0.1" in r.request.url
                        else (outside.append(r.request.url), r.abort())
                    ),
                )
                tab.goto(f"http://127.0.0.1:{port}/doc/tree/run.ipynb?token=t")
                tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
                drawn = "() => document.querySelectorAll('.vega-embed canvas').length"
                deadline = time.monotonic() + 60
                while tab.evaluate(drawn) < 2 and time.monotonic() < deadline:
                    tab.mouse.move(700, 500)
                    tab.mouse.wheel(0, 700)
                    tab.wait_for_timeout(400)
                found = tab.locator(".vega-embed canvas")
                sizes = [found.nth(i).bounding_box() for i in range(found.count())]
                assert len(sizes) >= 2 and all(s["width"] > 300 and s["height"] > 80 for s in sizes)
                assert [u for u in outside if "vega" in u] == [] and tab.locator(
                    ".vega-embed .error"
                ).count() == 0
                if os.environ.get("SERVELAB_SCREENSHOT"):
                    tab.screenshot(path=os.environ["SERVELAB_SCREENSHOT"])
                browser.close()
        finally:
            server.terminate()
            server.wait(20)


def _wait(url: str, log: Path) -> None:
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])
