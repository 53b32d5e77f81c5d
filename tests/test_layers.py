"""Imports run one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    "errors",
    "records",
    "seeds",
    "stamp",
    "catalog",
    "slo",
    "workload",
    "engine",
    "cluster",
    "topology",
    "cost.commitments",
    "cost.api",
    "cost.prices",
    "cost.price_table",
    "cost.machines",
    "cost.onpremises",
    "scenario",
    "metrics",
    "verdict",
    "objectives",
    "explain",
    "waterfall",
    "result",
    "replications",
    "comparison",
    "resolved",
    "platform",
    "tabulate",
    "notes",
    "simulation",
    "cost.rentals",
    "cost.lines",
    "cost.bill",
    "cost.ledger",
    "cost.energy",
    "planner",
    "export",
    "charts",
    "report",
    "explorer",
    "widgets",
    "workload_commands",
    "planner_commands",
    "present",
    "cli",
]


def layer(module: str) -> int | None:
    """Place of ``simulator.x.y`` in `LAYERS`; None for the package itself and for what has no layer of its own."""
    parts = module.split(".")[1:]
    for length in (2, 1):
        name = ".".join(parts[:length])
        if name in LAYERS:
            return LAYERS.index(name)
    return None


def imports(path: Path) -> set[str]:
    """Modules that a file imports, those for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def backwards(root: Path) -> list[str]:
    """Arrows that run back, as text."""
    out = []
    for path in sorted((root / "simulator").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        here = layer(module)
        for target in imports(path):
            if target.split(".")[0] == "calibration":
                out.append(f"{module} -> {target}")
            there = layer(target) if target.startswith("simulator.") else None
            if here is not None and there is not None and there > here:
                out.append(f"{module} -> {target}")
    return out


def test_no_arrow_runs_back():
    assert backwards(ROOT) == []


def test_every_module_has_a_layer():
    modules = {p.relative_to(ROOT).with_suffix("") for p in (ROOT / "simulator").rglob("*.py")}
    names = {".".join(m.parts).removesuffix(".__init__") for m in modules} - {"simulator", "simulator.cost"}
    assert [n for n in sorted(names) if layer(n) is None] == []


def test_only_what_runs_in_vllms_environment_imports_vllm():
    users = [
        p.name
        for p in ROOT.glob("*/**/*.py")
        if ".venv" not in p.parts[len(ROOT.parts)] and any(i.split(".")[0] == "vllm" for i in imports(p))
    ]
    assert sorted(users) == ["vllm_oracle.py", "vllm_recorder.py", "vllm_worker.py"]


@pytest.mark.parametrize(
    "line", ["from simulator.result import Result", "import calibration.judge.schedules", "from simulator import cli"]
)
def test_the_check_finds_an_arrow_that_runs_back(tmp_path, line):
    (tmp_path / "simulator" / "engine").mkdir(parents=True)
    (tmp_path / "simulator" / "engine" / "loop.py").write_text(line + "\n")
    assert len(backwards(tmp_path)) >= 1
