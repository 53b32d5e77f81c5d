"""From a workload's config to its table of requests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simulator.core.seeds import named_rng
from simulator.errors import ServelabError
from simulator.workload.arrivals import poisson_arrivals
from simulator.workload.config import (
    AzureConversation,
    PoissonWorkload,
    SyntheticWorkload,
    TraceWorkload,
    WorkloadConfig,
)
from simulator.workload.conversation import conversation_columns
from simulator.workload.lengths import draw_lengths
from simulator.workload.synthetic import draw_groups, limit_output, pick, synthetic_table
from simulator.workload.table import RequestTable
from simulator.workload.trace import read_trace
from simulator.workload.transforms import bootstrap, rescale, thin


def generate(config: WorkloadConfig, seed: np.random.SeedSequence, base_dir: Path = Path()) -> RequestTable:
    """The requests of ``config``. Every part draws from its own child of ``seed``, found by name.

    ``base_dir`` is where a relative trace path starts. Raises ServelabError when no request results, and
    what `trace.read_trace` raises.
    """
    if isinstance(config, TraceWorkload):
        return _replay(config, seed, base_dir)
    if isinstance(config, SyntheticWorkload):
        return synthetic_table(config, seed)
    table = _poisson(config, seed) if isinstance(config, PoissonWorkload) else _conversation(config, seed)
    if not len(table):
        raise ServelabError(
            f"no request arrives within duration_s {config.duration_s} at rate_rps {config.rate_rps}; raise one of them"
        )
    return table


def _poisson(config: PoissonWorkload, seed: np.random.SeedSequence) -> RequestTable:
    arrival_s = poisson_arrivals(
        config.rate_rps, named_rng(seed, "arrivals"), duration_s=config.duration_s, requests=config.requests
    )
    n = len(arrival_s)
    prompt = draw_lengths(config.prompt_tokens, n, named_rng(seed, "prompt_tokens"))
    output, asked = limit_output(
        draw_lengths(config.output_tokens, n, named_rng(seed, "output_tokens")), config.max_tokens
    )
    priority = None
    if config.priority_weights is not None:
        levels = np.array(sorted(config.priority_weights))
        weights = np.array([config.priority_weights[k] for k in levels.tolist()])
        priority = levels[pick(weights, named_rng(seed, "priority").random(n))]
    prefix: dict[str, Any] = {}
    if config.shared_prefix is not None:
        group = draw_groups(config.shared_prefix, n, named_rng(seed, "shared_prefix"))
        shares = group >= 0
        prefix = {
            "segment_start": np.concatenate(([0], np.cumsum(shares))),
            "segment_stream": group[shares],
            "segment_tokens": np.full(int(shares.sum()), config.shared_prefix.tokens, np.int32),
        }
        prompt = prompt + np.where(shares, config.shared_prefix.tokens, 0)
    return RequestTable.from_columns(arrival_s, prompt, output, asked, priority, **prefix)


def _conversation(config: AzureConversation, seed: np.random.SeedSequence) -> RequestTable:
    arrival_s, prompt, output = conversation_columns(config, seed)
    return RequestTable.from_columns(arrival_s, prompt, *limit_output(output, config.max_tokens))


def _replay(config: TraceWorkload, seed: np.random.SeedSequence, base_dir: Path) -> RequestTable:
    path = Path(base_dir) / config.path
    table = read_trace(path, config.format, columns=config.columns, max_bad_share=config.max_bad_share)
    end_s = np.inf if config.end_s is None else config.end_s
    last_s = float(np.nanmax(table.arrival_s))
    first, last = 0, len(table)
    if (config.start_s, config.end_s) != (0.0, None):
        first, last = np.searchsorted(table.arrival_s, [config.start_s, end_s])
    if first >= last:
        raise ServelabError(
            f"{path}: no request between start_s {config.start_s} and end_s {config.end_s}; "
            f"the trace lasts {last_s:.3f} s"
        )
    observed_s = (last_s if config.end_s is None else config.end_s) - config.start_s
    try:
        table = table.slice(int(first), int(last))
        table = replace(table, arrival_s=table.arrival_s - config.start_s)
        table = _transformed(config, table, observed_s, seed)
    except ServelabError as error:
        raise ServelabError(f"{path}: {error}") from None
    if config.max_tokens is None:
        return table
    output, asked = limit_output(table.output_tokens, config.max_tokens)
    return replace(table, output_tokens=output, max_tokens=asked)


def _transformed(
    config: TraceWorkload, table: RequestTable, observed_s: float, seed: np.random.SeedSequence
) -> RequestTable:
    """``table``, which was observed for so long [s], thinned, resampled, on another clock, cut to ``limit``."""
    if config.sample < 1:
        table = thin(table, config.sample, named_rng(seed, "sample"))
    if config.bootstrap is not None and len(table):
        block_s, wanted_s = config.bootstrap.block_s, config.bootstrap.duration_s
        table = bootstrap(table, observed_s, block_s, wanted_s, named_rng(seed, "bootstrap"))
        observed_s = wanted_s or int(observed_s / block_s + 1e-9) * block_s
    if not len(table):
        raise ServelabError(f"no request is left of sample {config.sample} and bootstrap {config.bootstrap}")
    if config.rate_rps is not None:
        table = rescale(table, observed_s, config.rate_rps)
    elif config.rate_scale != 1:
        table.refuse_parts()
        table = replace(table, arrival_s=table.arrival_s / config.rate_scale)
    return table if config.limit is None else table.slice(0, config.limit)
