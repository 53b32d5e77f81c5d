"""The house: imports run one way, in no circle; the top holds what is listed; long files say why."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "extensions"))

from import_graph import backwards, circles, graph, imported, rooms

# rooms and modules at the top, in the order in which imports may run
ORDER = [
    "simulator.errors",
    "simulator.core",
    "simulator.records",
    "simulator.catalog",
    "simulator.workload",
    "simulator.engine",
    "simulator.cluster",
    "simulator.topology",
    "simulator.pricing",
    "simulator.scenario",
    "simulator.cost",
    "simulator.results",
    "simulator.run",
    "simulator.simulation",
    "simulator.planner",
    "simulator.export",
    "simulator.charts",
    "simulator.report",
    "simulator.explorer",
    "simulator.widgets",
    "simulator.command",
    "calibration.oracle",
    "calibration.measure",
    "calibration.formats",
    "calibration.fit",
    "calibration.judge",
    "calibration.profiles",
    "calibration.commands",
    # programs: python -m calibration.NAME
    "calibration.accuracy",
    "calibration.coverage",
    "calibration.fit_power",
    "calibration.make_kernel_profiles",
    "calibration.make_steady_profiles",
    "calibration.vllm_oracle",
]
LONGEST = 300
# file -> why it is longer
LONG = {
    "tests/test_arrivals.py": "the laws of one concept, each on every process",
    "tests/test_explorer.py": "the explorer without widgets, question by question",
    "tests/test_export_serve.py": "flags out and back, version by version",
    "tests/test_gallery.py": "every chart, looked at as data",
    "tests/test_ledger.py": "hand-worked bills, and properties over random ones",
    "tests/test_measured_formats.py": "a sample and its faults for each format",
    "tests/test_nodes.py": "placement worked by hand, then random clusters",
    "tests/test_planner.py": "search and proof against enumeration",
    "tests/test_sessions.py": "turns, agents, closed loops under one set of laws",
    "tests/test_widgets.py": "the page from Python and in a browser",
}


def pieces(root: Path) -> list[Path]:
    folders = ("simulator", "calibration", "benchmarks", "docs", "tests")
    return [p for folder in folders for p in (root / folder).rglob("*.py")]


def too_long(root: Path) -> list[str]:
    """Files over the limit that give no reason, and reasons for files that need none any more."""
    long = {p.relative_to(root).as_posix() for p in pieces(root) if len(p.read_text().splitlines()) > LONGEST}
    return sorted(long ^ set(LONG))


def unlisted(root: Path) -> list[str]:
    """What stands at the top of a package and is not in `ORDER`."""
    found = {
        f"{p.parent.name}.{p.stem}"
        for package in ("simulator", "calibration")
        for p in (root / package).iterdir()
        if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))
    }
    return sorted(found - set(ORDER) - {"simulator.__init__", "calibration.__init__"})


ARROWS = graph(ROOT)


def test_no_arrow_runs_back():
    assert backwards(ARROWS, ORDER) == []
    ours = {a: targets for a, targets in ARROWS.items() if a.startswith("simulator")}
    assert [(a, b) for a, targets in ours.items() for b in targets if b.startswith("calibration")] == []


def test_no_circle():
    assert circles(ARROWS) == []
    assert circles(rooms(ARROWS)) == []


def test_the_top_holds_what_is_listed():
    assert unlisted(ROOT) == []
    top = {p.stem for p in (ROOT / "simulator").glob("*.py")} - {"__init__"}
    assert top == {"errors", "scenario", "simulation"}


def test_long_files_say_why():
    assert too_long(ROOT) == []


def test_each_room_says_what_lives_there_and_what_may_not():
    for folder in {p.parent for package in ("simulator", "calibration") for p in (ROOT / package).rglob("*.py")}:
        said = (folder / "__init__.py").read_text().split('"""')[1]
        assert said.count(".") >= 2 and len(said.split("\n\n")) >= 2, folder


def test_only_what_runs_in_vllms_environment_imports_vllm():
    users = {p for p in pieces(ROOT) if any(i.split(".")[0] == "vllm" for i in imported(p))}
    assert {p.parent.relative_to(ROOT).as_posix() for p in users} == {"calibration/oracle"}
    assert {p.name for p in users} == {"vllm_oracle.py", "vllm_recorder.py", "vllm_worker.py"}


def test_the_oracle_needs_nothing_else_of_the_project():
    for module, targets in ARROWS.items():
        if module.startswith("calibration.oracle"):
            assert all(t.startswith("calibration.oracle") for t in targets), module


def house(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from simulator.results.result import Result",
        "import calibration.judge.schedules",
        "from simulator import command",
    ],
)
def test_the_check_finds_an_arrow_that_runs_back(tmp_path, line):
    root = house(
        tmp_path,
        {
            "simulator/engine/loop.py": f"def f():\n    {line}\n",
            "simulator/results/result.py": "",
            "simulator/command/__init__.py": "",
            "calibration/judge/schedules.py": "",
        },
    )
    assert len(backwards(graph(root), ORDER)) == 1


def test_the_check_finds_circles_strangers_and_long_files(tmp_path):
    root = house(
        tmp_path,
        {
            "simulator/core/a.py": "from simulator.core import b\n",
            "simulator/core/b.py": "from simulator.core.c import x\n",
            "simulator/core/c.py": "import simulator.core.a\n" + "\n" * LONGEST,
            "simulator/helpers.py": "",
        },
    )
    assert circles(graph(root)) == [["simulator.core.a", "simulator.core.b", "simulator.core.c"]]
    (root / "calibration").mkdir()
    assert unlisted(root) == ["simulator.helpers"]
    assert "simulator/core/c.py" in too_long(root)
