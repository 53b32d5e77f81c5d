"""JupyterLab and Voila on loopback, and a browser that is let go nowhere else."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOKEN = "t"


@dataclass
class Tab:
    """A page, and the addresses outside this machine that it asked for."""

    page: Any
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[str]:
    """The address of a server while it runs; skips nothing: what it wrote is in the error if it does not come up."""
    settings = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        **environment,
    }
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **settings}
        )
        try:
            for _ in range(120):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=2):
                        break
                except urllib.error.HTTPError:
                    break  # it answers
                except OSError:
                    time.sleep(0.5)
            else:
                raise AssertionError((folder / "log").read_text()[-2000:])
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def lab(folder: Path) -> Any:
    """JupyterLab on the notebooks of ``folder``."""
    port = _port()
    command = [
        "jupyter",
        "lab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
        "--allow-root",
    ]
    return served(command, port, folder)


def app(folder: Path) -> Any:
    """The planner as ``make app`` serves it, with a known token."""
    port = _port()
    flags = re.search(r"^APP := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert flags is not None
    options = flags.group(1).replace("\\\n", " ").split()
    command = ["voila", "notebooks/app/planner.ipynb", "--no-browser", f"--port={port}", f"--token={TOKEN}", *options]
    return served(command, port, folder, JUPYTER_PATH="notebooks/app")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips the test where playwright or chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def browser() -> Iterator[Any]:
    """A function that opens a `Tab`; skips as `chromium` does."""
    with chromium() as found:

        def open_tab() -> Tab:
            tab = Tab(found.new_context().new_page())
            tab.page.set_viewport_size({"width": 1500, "height": 1100})

            def judge(route: Any) -> None:
                if route.request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
                    route.continue_()
                else:
                    tab.outside.append(route.request.url)
                    route.abort()

            tab.page.route("**/*", judge)
            tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
            return tab

        yield open_tab
