"""Records what real vLLM's scheduler decides, over random cases and without a model.

    python -m calibration.vllm_oracle --out FILE.jsonl.gz --first-seed 0 --count 1000 [--profile wide]

Run from the repository root with the Python of an environment that holds vLLM 0.32, never the project's own.
One JSON object a line; tests/data/README.md describes its fields. `calibration.oracle.cases` draws the cases,
`calibration.oracle.drive` drives vLLM's `Scheduler` or `AsyncScheduler` through them with made-up outputs.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

from calibration.oracle.cases import PROFILES, Case, make_case
from calibration.oracle.drive import Batch, Drive, StuckError
from calibration.oracle.token_streams import TokenStreams

log = logging.getLogger(__name__)

MODEL = """{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "head_dim": 32,
"intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
"vocab_size": 512, "max_position_embeddings": 8192}"""
SCHEDULER_FLAGS = (
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_num_active_seqs",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
    "scheduler_reserve_full_isl",
    "watermark",
)


@cache
def _model_config() -> Any:
    """vLLM's model configuration, from nothing but a config.json; each case sets its own length limit."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm.config import ModelConfig

    logging.getLogger("vllm").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(MODEL)
        return ModelConfig(model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=8192)


def _config(engine: dict[str, Any]) -> Any:
    """vLLM's configuration with these flags. Raises ValueError where vLLM's own checks replaced one."""
    model = copy.copy(_model_config())
    from vllm.config import CacheConfig, DeviceConfig, SchedulerConfig, VllmConfig

    model.max_model_len = engine["max_model_len"]
    flags = {name: engine[name] for name in SCHEDULER_FLAGS if name in engine}
    cache_flags = {name: engine[name] for name in ("block_size", "enable_prefix_caching")}
    config = VllmConfig(
        model_config=model,
        device_config=DeviceConfig("cpu"),
        cache_config=CacheConfig(**cache_flags),
        scheduler_config=SchedulerConfig(
            max_model_len=engine["max_model_len"], is_encoder_decoder=False, policy=engine["scheduling_policy"], **flags
        ),
    )
    # The CPU platform turns asynchronous scheduling off, so it is set after the configuration's own checks.
    config.scheduler_config.async_scheduling = engine["async_scheduling"]
    config.cache_config.num_gpu_blocks = engine["num_gpu_blocks_override"]
    took = {name: getattr(config.scheduler_config, name) for name in flags}
    took |= {name: getattr(config.cache_config, name) for name in cache_flags}
    for name, value in took.items():
        if value != engine[name]:
            raise ValueError(f"{name}={engine[name]!r}: vLLM replaced it by {value!r}")
    return config


class VllmScheduler:
    """vLLM's own scheduler with a case's flags: one full-attention KV cache group, no worker."""

    def __init__(self, case: Case, streams: TokenStreams) -> None:
        config = _config(case.engine)
        import torch
        import vllm
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        init_none_hash(sha256)
        block_size, blocks = case.engine["block_size"], case.engine["num_gpu_blocks_override"]
        layer = FullAttentionSpec(block_size=block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
        groups = [KVCacheGroupSpec(["layer"], layer)]
        self.case, self.streams, self.version = case, streams, vllm.__version__
        self.hasher = get_request_block_hasher(block_size, sha256)
        self.scheduler = (AsyncScheduler if case.engine["async_scheduling"] else Scheduler)(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups),
            structured_output_manager=StructuredOutputManager(config),
            block_size=block_size,
        )

    def add(self, row: int) -> None:
        """The request arrives; its last output is a stop token unless a limit ends it there."""
        from vllm import SamplingParams
        from vllm.v1.request import Request

        request = self.case.requests[row]
        outputs = request["output_tokens"]
        capped = outputs == request["max_tokens"]
        capped |= request["prompt_tokens"] + outputs == self.case.engine["max_model_len"]
        stop = [] if capped else [self.streams.output(row, outputs - 1)]
        sampling = SamplingParams(max_tokens=request["max_tokens"], ignore_eos=True, stop_token_ids=stop)
        self.scheduler.add_request(
            Request(
                request_id=request["id"],
                prompt_token_ids=self.streams.prompt(row),
                sampling_params=sampling,
                pooling_params=None,
                arrival_time=float(row),
                priority=request.get("priority", 0),
                block_hasher=self.hasher,
            )
        )

    def busy(self) -> bool:
        """Whether the engine core would call schedule()."""
        return bool(self.scheduler.has_requests())

    def states(self) -> dict[str, Any]:
        """The state of every unfinished request."""
        return {name: (r.status, r.is_prefill_chunk) for name, r in self.scheduler.requests.items()}

    def outputs(self, name: str) -> int | None:
        """Output tokens the scheduler has been handed so far; None once the request is gone."""
        request = self.scheduler.requests.get(name)
        return None if request is None else request.num_output_tokens

    def schedule(self) -> Batch:
        output = self.scheduler.schedule()
        cached = output.scheduled_cached_reqs
        before = {r.req_id: r.num_computed_tokens for r in output.scheduled_new_reqs}
        before |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        preempted = sorted(output.preempted_req_ids or [])
        free = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return Batch(dict(output.num_scheduled_tokens), before, preempted, free, output)

    def update(self, batch: Batch, sampled: dict[str, list[int]]) -> None:
        from vllm.v1.outputs import ModelRunnerOutput

        made_up = ModelRunnerOutput(
            req_ids=list(sampled),
            req_id_to_index={name: i for i, name in enumerate(sampled)},
            sampled_token_ids=list(sampled.values()),
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        self.scheduler.update_from_output(batch.handle, made_up)

    def abort(self, name: str) -> None:
        # One call a request: a call for several frees them in the arbitrary order of a set of strings.
        from vllm.v1.request import RequestStatus

        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)


def record_cases(profile: str, seeds: range, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Recordings of the seeds; cases that vLLM refuses or cannot finish are counted in `skipped` by error."""
    for seed in seeds:
        try:
            case = make_case(profile, seed)
            streams = TokenStreams(case.requests)
            yield Drive(case, streams, VllmScheduler(case, streams)).record()
        except (StuckError, ValueError, AssertionError) as error:
            log.warning("seed %d skipped: %s: %s", seed, type(error).__name__, str(error)[:200])
            skipped[type(error).__name__] += 1


def _open(path: Path) -> IO[str]:
    """The file for writing text, gzip-compressed (the same bytes every time) where its name ends in .gz."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.GzipFile(path, "wb", mtime=0), encoding="utf-8")
    return path.open("w", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when at least one case was recorded."""
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="calibration.vllm_oracle", description=summary)
    parser.add_argument("--out", type=Path, required=True, help="FILE.jsonl or FILE.jsonl.gz")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--profile", choices=PROFILES, default="narrow")
    args = parser.parse_args(arguments)
    seeds = range(args.first_seed, args.first_seed + args.count)
    skipped: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with _open(args.out) as file:
        for record in record_cases(args.profile, seeds, skipped):
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
            seen["cases"] += 1
            seen["asynchronous"] += record["in_flight"] == 2
            for event in record["events"]:
                seen[next(iter(event))] += 1
                seen["preempted"] += len(event.get("preempted", []))
    sys.stderr.write(f"{dict(seen)} skipped {dict(skipped)}\n")
    return 0 if seen["cases"] else 1
