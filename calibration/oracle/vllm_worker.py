"""Runs a campaign on real vLLM, in vLLM's own environment: ``python -m calibration.oracle.vllm_worker FOLDER``.

FOLDER/plan.json says which engine and which runs; this writes, a line at a time, FOLDER/steps-*.jsonl (batches, see
`calibration.oracle.vllm_recorder`), FOLDER/requests.jsonl (requests of the client) and FOLDER/runs.jsonl (a line when a
run is done, or why it is not). Runs that runs.jsonl already holds are skipped, so a killed campaign goes on. Needs
nothing of the project's but this package; nothing here depends on the CPU build of vLLM.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from calibration.oracle.client import Client, append, done_runs


class Local:
    """An `AsyncLLM` of this process, as `Client` uses an engine."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    async def tokens(self, prompt: list[int], output: int, name: str) -> AsyncIterator[tuple[list[int], int | None]]:
        """Token ids as they come, and the tokens found in the prefix cache."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            max_tokens=output, ignore_eos=True, detokenize=False, temperature=0.0, output_kind=RequestOutputKind.DELTA
        )
        async for chunk in self.llm.generate({"prompt_token_ids": prompt}, sampling, name):
            yield list(chunk.outputs[0].token_ids), chunk.num_cached_tokens


def make_engine(plan: dict[str, Any], record: Path, number: int = 0) -> Any:
    """Engine ``number``, an `AsyncLLM` with the plan's flags that records its batches in ``record``."""
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    flags = dict(plan["engine_args"])
    synchronous = current_platform.is_cpu() or flags.get("async_scheduling") is False
    name = "RecordingScheduler" if synchronous else "RecordingAsyncScheduler"
    os.environ["SERVELAB_RECORD"] = str(record)
    bind = plan.get("threads")
    if bind:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = bind[number]
    os.environ["SERVELAB_RECORD_FULL"] = "1" if plan.get("full") else "0"
    arguments = AsyncEngineArgs(
        model=plan["model"], skip_tokenizer_init=True, scheduler_cls=f"calibration.oracle.vllm_recorder.{name}", **flags
    )
    return AsyncLLM.from_engine_args(arguments)


def facts(engine: Any) -> dict[str, Any]:
    """What the engine became: versions, resolved flags, hardware."""
    import torch
    import vllm

    config = engine.vllm_config
    scheduler, cache, parallel, model = (
        config.scheduler_config,
        config.cache_config,
        config.parallel_config,
        config.model_config,
    )
    names = (
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "policy",
        "async_scheduling",
    )
    found = {n: getattr(scheduler, n, None) for n in names}
    found |= {
        n: getattr(cache, n, None) for n in ("block_size", "num_gpu_blocks", "enable_prefix_caching", "cache_dtype")
    }
    found |= {n: getattr(parallel, n, None) for n in ("tensor_parallel_size", "pipeline_parallel_size")}
    found |= {"max_model_len": model.max_model_len, "dtype": str(model.dtype), "enforce_eager": model.enforce_eager}
    sizes = getattr(config.compilation_config, "cudagraph_capture_sizes", None)
    out = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "engine": found,
        "cudagraph_capture_sizes": sizes,
        "cudagraph_mode": str(getattr(config.compilation_config, "cudagraph_mode", None)),
        "cpu": _cpu(),
        "hf_config": model.hf_config.to_dict(),
        "date": time.strftime("%Y-%m-%d"),
        "gpu": None,
    }
    if torch.cuda.is_available():
        out["gpu"] = torch.cuda.get_device_name()
        out["gpus"] = torch.cuda.device_count()
        out["nvidia_smi"] = _smi()
    return out


def _cpu() -> str:
    """The processor's name and how many there are."""
    file = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in file.read_text().splitlines() if line.startswith("model name")]
        if file.is_file()
        else []
    )
    return f"{len(names)} x {names[0]}" if names else ""


def _smi() -> str:
    """Driver, clocks and power limits, as nvidia-smi prints them; empty without it."""
    import subprocess

    query = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
    try:
        return subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _campaign(asked: dict[str, Any], about: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a campaign, now that the engine has said what its flags became."""
    from calibration.oracle.campaign import default_campaign

    flags = about["engine"]
    length = min(flags["max_model_len"], asked.get("longest") or flags["max_model_len"])
    pool = (flags["num_gpu_blocks"] - 1) * flags["block_size"]
    return default_campaign(
        flags["max_num_seqs"],
        flags["max_num_batched_tokens"],
        length,
        pool,
        about["cudagraph_capture_sizes"] or (),
        prompt=min(asked["prompt"], length / 4),
        output=min(asked["output"], length / 4),
        load_s=asked["load_s"],
        seed=asked["seed"],
    )


async def campaign(folder: Path) -> int:
    """All runs of the plan that are not done yet; 0 when every one is, 3 when the engine died."""
    plan = json.loads((folder / "plan.json").read_text())
    done = done_runs(folder)
    todo = [run for run in plan.get("runs", ()) if run["name"] not in done]
    if "runs" in plan and not todo:
        return 0
    session = f"{int(time.time())}"
    append(folder / "runs.jsonl", [{"starting": session}])
    began = time.monotonic()
    engines = [make_engine(plan, folder / f"steps-{session}-{i}.jsonl", i) for i in range(plan.get("engines", 1))]
    about = facts(engines[0]) | {"start_s": round(time.monotonic() - began, 3), "session": session}
    append(folder / "engine.jsonl", [about])
    if "runs" not in plan:
        plan["runs"] = todo = _campaign(plan["campaign"], about)
        (folder / "plan.json").write_text(json.dumps(plan, indent=1))
    vocabulary = engines[0].vllm_config.model_config.get_vocab_size()
    client = Client([Local(engine) for engine in engines], vocabulary, plan["seed"], folder)
    try:
        for run in todo:
            spent = time.monotonic() - began - about["start_s"]
            if run.get("phase") == "fit" and spent > plan.get("fit_s", float("inf")):
                append(folder / "runs.jsonl", [{"run": run["name"], "skipped": "the time for batches was over"}])
                continue
            stop = run.get("timeout", 600.0)
            started = time.monotonic()
            rows = await asyncio.wait_for(getattr(client, run["kind"])(run), stop)
            append(folder / "requests.jsonl", rows)
            errors = [row["error"] for row in rows if "error" in row]
            said = {
                "run": run["name"],
                "session": session,
                "start": round(client.start, 6),
                "began": round(started, 6),
                "end": round(time.monotonic(), 6),
            }
            if errors:
                said["failed"] = len(errors)
            dead = [e for e in errors if e.startswith("EngineDeadError")]
            if dead:
                said["error"] = dead[0]
            append(folder / "runs.jsonl", [said])
            if dead:
                return 3
            for engine in engines:
                await engine.reset_prefix_cache()
        return 0
    except TimeoutError:
        append(folder / "runs.jsonl", [{"run": run["name"], "error": f"not done within {stop} s"}])
        return 3
    finally:
        for engine in engines:
            engine.shutdown()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(campaign(Path(sys.argv[1]))))
