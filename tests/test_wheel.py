"""What `pip install .` ships is enough to run."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("servelab-*.whl"))


def test_contents(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"simulator/data/{p.name}" for p in (ROOT / "data").iterdir() if p.is_file()}
    for package in ("simulator", "calibration"):
        wanted |= {str(p.relative_to(ROOT)) for p in (ROOT / package).rglob("*.py")}
    assert wanted <= names, wanted - names


def test_it_runs_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import simulator; assert simulator.__file__.startswith(sys.argv[1]), simulator.__file__\n"
        "from simulator.catalog import data_folder, load_gpus\n"
        "assert str(data_folder()).startswith(sys.argv[1]) and load_gpus()\n"
        "from simulator import Scenario\n"
        "Scenario.load(data_folder() / 'scenario.yaml')\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code, str(site)], check=True, cwd=tmp_path, env=env)


def test_constraints_name_names_and_versions_only():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)
    names = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    for wanted in ("numpy", "numba", "simpy", "pydantic", "pytest", "hypothesis", "ruff", "mypy"):
        assert wanted in names
