"""From a request table and engine settings to the records that the compiled engine reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulator.engine.state import CONFIG, FCFS, KEYED, NONE, PRIORITY, REQUEST, records
from simulator.errors import ServelabError
from simulator.workload.table import RequestTable

POLICIES = {"fcfs": FCFS, "priority": PRIORITY}


def config_record(flags: Mapping[str, Any], **extra: Any) -> np.ndarray:
    """One CONFIG record from vLLM's flag names, every flag given.

    ``num_gpu_blocks`` counts the null block. ``extra`` sets further fields of CONFIG by their own names.
    """
    blocks = int(flags["num_gpu_blocks"])
    config = records(1, CONFIG)
    c = config[0]
    c.block_size = flags["block_size"]
    c.max_seqs = flags["max_num_seqs"]
    c.max_active = flags["max_num_active_seqs"] or flags["max_num_seqs"]
    c.budget = flags["max_num_batched_tokens"]
    c.max_len = flags["max_model_len"]
    c.long_prefill = flags["long_prefill_token_threshold"]
    c.long_prefill_adaptive = flags["long_prefill_token_threshold_adaptive"]
    c.long_prefill_alone = flags["long_prefill_off_when_alone"]
    c.chunked = flags["enable_chunked_prefill"]
    c.policy = POLICIES[flags["scheduling_policy"]]
    c.asynchronous = flags["async_scheduling"]
    c.reserve_full = flags["scheduler_reserve_full_isl"]
    c.watermark = int(flags["watermark"] * blocks)
    c.blocks = blocks
    c.caching = flags["enable_prefix_caching"]
    c.max_queued = NONE if flags["max_num_queued_reqs"] is None else flags["max_num_queued_reqs"]
    c.max_queued_tokens = NONE if flags["max_num_queued_tokens"] is None else flags["max_num_queued_tokens"]
    c.fronts = 1
    c.time_factor = 1.0
    c.named_streams = 1
    c.timeline = 1.0
    c.visible = NONE
    c.share = 1
    c.lockstep = 1
    c.max_pending = NONE
    c.queue_timeout = np.inf
    for name, value in extra.items():
        config[name][0] = value
    return config


def request_records(
    table: RequestTable, max_model_len: int, policy: int, keys: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Records of the requests of ``table`` and the number of waiting levels that ``policy`` needs.

    Raises ServelabError for a prompt that leaves no room for an output token within ``max_model_len``.
    """
    n = len(table)
    long = np.flatnonzero(table.prompt_tokens >= max_model_len)
    if len(long):
        row = int(long[0])
        raise ServelabError(
            f"workload: {len(long)} of {n} prompts do not fit max_model_len: request {row} has "
            f"prompt_tokens={int(table.prompt_tokens[row])}, the limit is max_model_len - 1 = {max_model_len - 1}; "
            "raise engine.max_model_len or cut the prompts"
        )
    q = records(n, REQUEST)
    q["arrival"] = table.arrival_s
    for name in ("ready", "scheduled", "first", "end", "last"):
        q[name] = np.nan
    q["deadline"] = np.inf
    for name in ("stale", "extra", "slot", "next", "prev", "follow", "abort_next", "replica", "cached"):
        q[name] = NONE
    q["prompt"] = table.prompt_tokens
    q["cap"] = np.minimum(table.max_tokens, max_model_len - table.prompt_tokens)
    q["length"] = np.minimum(table.output_tokens, q["cap"])
    q["segment"] = table.segment_start[:-1]
    q["segments"] = np.diff(table.segment_start)
    levels = 1
    if policy == PRIORITY:
        distinct, level = np.unique(table.priority, return_inverse=True)
        q["level"] = level
        levels = max(len(distinct), 1)
    elif policy == KEYED:
        assert keys is not None
        q["key"] = keys
    return q, levels
