"""vLLM's own scheduler, writing down what each batch held and when it was planned and done.

Given to vLLM as ``scheduler_cls``; runs in the process of the engine core, in vLLM's environment. One JSON object a
line goes to the file that the environment variable SERVELAB_RECORD names, written at once, so that a killed run
keeps its rows. Times are of ``time.monotonic`` [s], which all processes of a machine share.

Per batch: ``t`` [schedule() called, schedule() returned, outputs handed back]; ``p`` the chunks of sequences in
prefill as [tokens before, tokens]; ``d`` decoding sequences and ``kv`` the tokens they read; ``s`` sampled
tokens; ``r`` and ``w`` running and waiting requests; ``b`` free blocks after scheduling; ``x`` preempted
requests; ``h`` tokens found in the prefix cache by newly admitted requests. Per request: ``add`` its id, ``at`` when
the engine core took it. With SERVELAB_RECORD_FULL=1 every decision follows as an ``event`` of the recordings that
`calibration.judge.schedules` replays.
"""

import json
import os
import time
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler


class _Recorder:
    """What both schedulers do beside scheduling."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = open(os.environ["SERVELAB_RECORD"], "a", buffering=1)  # noqa: SIM115 (open as long as the engine)
        self._full = os.environ.get("SERVELAB_RECORD_FULL") == "1"
        self._updates = 0
        self._planned: dict[int, tuple[float, float, dict[str, Any]]] = {}
        blocks = self.kv_cache_manager.block_pool.num_gpu_blocks  # type: ignore[attr-defined]
        self._write({"blocks": blocks, "class": type(self).__name__})

    def _write(self, row: dict[str, Any]) -> None:
        self._rows.write(json.dumps(row, separators=(",", ":")) + "\n")

    def add_request(self, request: Any) -> None:
        self._write({"add": request.request_id, "at": round(time.monotonic(), 6)})
        if self._full:
            self._write(
                {
                    "event": {"add": [request.request_id]},
                    "prompt_tokens": request.num_prompt_tokens,
                    "max_tokens": request.max_tokens,
                }
            )
        super().add_request(request)  # type: ignore[misc]

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        called = time.monotonic()
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if output.total_num_scheduled_tokens:
            self._planned[id(output)] = (called, time.monotonic(), self._batch(output))
        if self._full:
            self._write({"event": self._event(output)})
        return output

    def _event(self, output: Any) -> dict[str, Any]:
        """What one schedule decided, as `calibration.oracle.drive` writes it."""
        return {
            "schedule": dict(output.num_scheduled_tokens),
            "computed_before": _before(output),
            "preempted": sorted(output.preempted_req_ids or []),
            "free_blocks": self.kv_cache_manager.block_pool.get_num_free_blocks(),  # type: ignore[attr-defined]
        }

    def _batch(self, output: Any) -> dict[str, Any]:
        requests = self.requests  # type: ignore[attr-defined]
        before = _before(output)
        hits = sum(r.num_computed_tokens for r in output.scheduled_new_reqs)
        chunks, decodes, kv, sampled = [], 0, 0, 0
        for name, n in output.num_scheduled_tokens.items():
            request = requests[name]
            start = before[name]
            ends = start + n >= request.num_prompt_tokens
            sampled += ends
            if n == 1 and start >= request.num_prompt_tokens:
                decodes += 1
                kv += start + 1
            else:
                chunks.append([start, n])
        gone = output.preempted_req_ids or ()
        return {
            "p": chunks,
            "d": decodes,
            "kv": kv,
            "s": sampled,
            "r": len(self.running),  # type: ignore[attr-defined]
            "w": len(self.waiting),  # type: ignore[attr-defined]
            "b": self.kv_cache_manager.block_pool.get_num_free_blocks(),  # type: ignore[attr-defined]
            "x": len(gone),
            "h": hits,
        }

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        done = time.monotonic()
        result = super().update_from_output(scheduler_output, model_runner_output)  # type: ignore[misc]
        found = self._planned.pop(id(scheduler_output), None)
        if found is not None:
            called, planned, row = found
            row = {"t": [round(called, 6), round(planned, 6), round(done, 6)]} | row
            self._write(row)
            if self._full:
                left = sorted(n for n in scheduler_output.num_scheduled_tokens if n not in self.requests)  # type: ignore[attr-defined]
                self._write({"event": {"update": self._updates, "finished": left}})
                self._updates += 1
        return result


def _before(output: Any) -> dict[str, int]:
    """Tokens with a KV slot before the batch, by request, in the order of the batch."""
    cached = output.scheduled_cached_reqs
    before = {r.req_id: r.num_computed_tokens for r in output.scheduled_new_reqs}
    before |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    return {name: before[name] for name in output.num_scheduled_tokens}


class RecordingScheduler(_Recorder, Scheduler):
    """For engines that schedule synchronously."""


class RecordingAsyncScheduler(_Recorder, AsyncScheduler):
    """For engines that schedule asynchronously, which a subclass of `Scheduler` would turn off."""
