"""Any fields over values: one tidy table."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
import yaml

from simulator.core.yaml_text import overridden
from simulator.errors import ServelabError, nearest
from simulator.planner.evaluate import job
from simulator.planner.runs import Runs
from simulator.planner.traffic import times
from simulator.scenario import Scenario

SHORT = {
    "gpu": "deployments.0.gpu",
    "model": "deployments.0.model",
    "replicas": "deployments.0.replicas",
    "serving": "deployments.0.serving",
    "autoscaler": "deployments.0.autoscaler",
    "step_time": "deployments.0.step_time",
    **{
        f: f"deployments.0.engine.{f}"
        for f in (
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "quantization",
            "kv_cache_dtype",
            "enable_prefix_caching",
            "enable_chunked_prefill",
            "gpu_memory_utilization",
            "scheduling_policy",
        )
    },
    "data_parallel_size": "deployments.0.data_parallel_size",
    "purchase": "prices.purchase",
    "rate_rps": "workload.rate_rps",
}
TRAFFIC = "traffic"


def path_of(name: str) -> str:
    """The full path of a field: short names are those of the first deployment."""
    return SHORT.get(name, name)


def with_fields(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    """``scenario`` with fields set; ``traffic`` multiplies its rate. Raises ServelabError for a field that does not
    exist.

    >>> from simulator.scenario import Scenario
    >>> s = Scenario.of({"workload": {"source": "azure_conversation", "rate_rps": 2.0, "requests": 10},
    ...     "deployments": [{"model": "llama-3.1-8b", "gpu": "h100"}]})
    >>> with_fields(s, {"gpu": "a100", "traffic": 1.5}).workload.rate_rps
    3.0
    """
    mapping = scenario.to_mapping()
    for name, value in fields.items():
        if name == TRAFFIC:
            continue
        if "." not in name and name not in SHORT and name not in Scenario.model_fields:
            raise ServelabError(
                f"field {name!r}{nearest(name, [*SHORT, TRAFFIC])}: give a path such as deployments.0.replicas"
            )
        mapping = overridden(mapping, f"{path_of(name)}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}")
    made = Scenario.of(mapping, scenario.base_dir)
    if TRAFFIC in fields:
        made = made.model_copy(update={"workload": times(made.workload, float(fields[TRAFFIC]))})
        made._base_dir = scenario.base_dir
    return made


def points(grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """All combinations of the grid's values, the last field fastest.

    >>> points({"gpu": ["l4"], "replicas": [1, 2]})
    [{'gpu': 'l4', 'replicas': 1}, {'gpu': 'l4', 'replicas': 2}]
    """
    values = {name: list(v) for name, v in grid.items()}
    for name, v in values.items():
        if not v:
            raise ServelabError(f"grid: {name!r} has no values")
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def label(value: Any) -> Any:
    """A value as it stands in a table: plain ones as they are, others as YAML on one line."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping) and "kind" in value and len(value) == 1:
        return value["kind"]
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()


def sweep(
    scenario: Scenario, grid: Mapping[str, Iterable[Any]], seeds: Sequence[int] = (0,), runs: Runs = Runs()
) -> pd.DataFrame:
    """Every combination of the grid under every seed: a row each, the fields first, then the figures of
    `evaluate.row_of`.

    All combinations see the same requests of a seed (common random numbers). A combination that cannot be simulated (a
    model that does not fit) has its reason in ``error`` and NaN elsewhere. Fields are paths such as
    ``deployments.0.replicas``, short names of the first deployment (`SHORT`), or ``traffic``, which multiplies the
    rate.

    Raises ServelabError for a field that does not exist and for an empty grid.
    """
    from simulator.run.resolved import resolve_deployment

    places = points(grid)
    if not seeds:
        raise ServelabError("a sweep needs at least one seed")
    jobs, rows = [], []
    for fields in places:
        shown = {name: label(value) for name, value in fields.items()}
        problem, made = "", None
        try:
            made = with_fields(scenario, fields)
            for i in range(len(made.deployments)):
                resolve_deployment(made, i)
        except ServelabError as refused:
            problem = str(refused)
            if "unknown field" in problem or "give a path" in problem:
                raise
        for seed in seeds:
            rows.append({**shown, "seed": seed, "error": problem})
            if not problem and made is not None:
                jobs.append((len(rows) - 1, job(made, seed)))
    for (place, _), figures in zip(jobs, runs.rows([j for _, j in jobs]), strict=True):
        rows[place] |= figures
    return pd.DataFrame(rows)
