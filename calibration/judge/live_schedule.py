"""The decisions of a live engine that recorded everything, as a recording that `calibration.judge.schedules`
replays."""

from pathlib import Path
from typing import Any

from calibration.measure.measurements import lines, read_plan
from simulator.errors import ServelabError

FLAGS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "enable_prefix_caching",
    "max_model_len",
)


def live_recording(folder: Path) -> dict[str, Any]:
    """The recording of the only engine of ``folder``, whose plan said ``full``; requests share no prefix and reach
    ``max_tokens``.

    Raises ServelabError where decisions were not recorded, or by several engines.
    """
    read_plan(folder)
    engine = list(lines(folder / "engine.jsonl"))
    files = sorted(folder.glob("steps-*.jsonl"))
    if len(files) != 1 or len(engine) != 1:
        raise ServelabError(f"{str(folder)!r} holds {len(files)} recordings, expected one engine's")
    requests, events = [], []
    for row in lines(files[0]):
        if "event" not in row:
            continue
        event = row["event"]
        if "add" in event:
            (name,) = event["add"]
            requests.append(
                {
                    "id": name,
                    "prompt_tokens": row["prompt_tokens"],
                    "max_tokens": row["max_tokens"],
                    "output_tokens": row["max_tokens"],
                }
            )
        events.append(event)
    if not events:
        raise ServelabError(f"{files[0].name} holds no decisions: the plan must say full")
    flags = engine[0]["engine"]
    return {
        "vllm": engine[0]["vllm"],
        "source": "a live engine",
        "engine": {n: flags[n] for n in FLAGS},
        "num_blocks": flags["num_gpu_blocks"],
        "block_size": flags["block_size"],
        "in_flight": 2 if flags.get("async_scheduling") else 1,
        "empty_schedules": True,
        "requests": requests,
        "events": events,
    }
