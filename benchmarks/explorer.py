"""How fast the preview follows a slider: ``python -m benchmarks.explorer [--browser]``. The aim is 200 ms.

In the kernel: from the slider's new value to the new card. With ``--browser`` (playwright and chromium needed) also as
a person sees it: the page served by Voila, from a key pressed on the slider to the changed figure.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

AIM_MS = 200.0
MOVES = 100
ROOT = Path(__file__).parents[1]


def in_kernel(moves: int = MOVES) -> np.ndarray:
    """Milliseconds of each of ``moves`` of the sliders of rate and replicas, in turn."""
    from simulator.widgets import explore

    page = explore()
    rate, replicas = (page.slider(f) for f in ("workload.rate_rps", "deployments.0.replicas"))
    took = []
    for i in range(moves):
        began = time.perf_counter()
        if i % 2:
            replicas.value = 1 + (i // 2) % 12
        else:
            rate.value = 4.0 + 0.37 * i
        took.append((time.perf_counter() - began) * 1e3)
    return np.array(took)


def in_browser(moves: int = 24) -> np.ndarray:
    """Milliseconds from a key on the slider of replicas to the changed cost on the page."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "voila",
        "notebooks/app/planner.ipynb",
        "--no-browser",
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        "--token=t",
        "--template=servelab",
    ]
    environment = {**os.environ, "JUPYTER_PATH": "notebooks/app"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page: Any = browser.new_page(viewport={"width": 1500, "height": 1000})
            page.goto(f"http://127.0.0.1:{port}/?token=t", timeout=120_000)
            cost = page.locator(".sl-tile:has-text('USD/hour') b").first
            cost.wait_for(timeout=120_000)
            handle = page.locator(".widget-slider .noUi-handle").nth(1)
            took = []
            for i in range(moves):
                before = cost.inner_text()
                handle.focus()
                began = time.perf_counter()
                page.keyboard.press("ArrowRight" if i < moves / 2 else "ArrowLeft")
                page.wait_for_function(
                    "b => [...document.querySelectorAll('.sl-tile')].some(t => t.innerText.startsWith('USD/hour') "
                    "&& !t.innerText.includes(b))",
                    arg=before,
                    polling=5,
                    timeout=10_000,
                )
                took.append((time.perf_counter() - began) * 1e3)
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
    return np.array(took)


def _wait(port: int) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/voila/static/?token=t", timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)


def line(name: str, took: np.ndarray) -> str:
    """Median and 95th percentile, and whether the aim is met."""
    p95 = np.percentile(took, 95)
    return (
        f"{name}: median {np.median(took):.0f} ms, 95 % within {p95:.0f} ms, {len(took)} moves "
        f"({'within' if p95 <= AIM_MS else 'beyond'} the {AIM_MS:.0f} ms aimed at)\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.explorer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--browser", action="store_true")
    args = parser.parse_args(arguments)
    sys.stdout.write(line("preview, in the kernel", in_kernel()))
    if args.browser:
        sys.stdout.write(line("preview, in a browser", in_browser()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
