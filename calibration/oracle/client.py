"""The client of a load test: sends requests at their times, follows their tokens, writes down what it saw.

An *engine* is anything with ``tokens(prompt, output, name)``: real vLLM in this process, or a server over HTTP. Needs
numpy only, so that it runs in vLLM's environment too.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

UNIT_S = 1e-5  # of the intervals between tokens in requests.jsonl


class Client:
    """Sends the requests of one run to one or more engines (each request to the one with the fewest) and times them."""

    def __init__(self, engines: list[Any], vocabulary: int, seed: int, folder: Path) -> None:
        self.engines, self.vocabulary, self.seed, self.folder = engines, vocabulary, seed, folder
        self.open = [0] * len(engines)
        self.start = 0.0

    def prompt(self, run: str, row: int, request: dict[str, Any]) -> list[int]:
        """Token ids: shared prefixes first, by stream, then tokens of the request's own."""
        parts = [self._stream(stream, n) for stream, n in request.get("prefix", [])]
        rest = request["prompt"] - sum(map(len, parts))
        parts.append(self._stream(f"{run}/{row}", rest))
        return [int(t) for part in parts for t in part]

    def _stream(self, name: Any, n: int) -> np.ndarray:
        words = [self.seed, *str(name).encode()]
        return np.random.default_rng(words).integers(3, self.vocabulary, n)

    async def send(
        self, run: str, row: int, request: dict[str, Any], after: tuple[int, asyncio.Event] | None = None
    ) -> dict[str, Any]:
        """One request from sending to its last token. Times are seconds from the start of the run.

        ``after``: a number of tokens, and the event to set when they are there or the request has ended.
        """
        prompt = request.get("ids") or self.prompt(run, row, request)
        which = int(np.argmin(self.open))
        self.open[which] += 1
        times: list[float] = []
        tokens: list[int] = []
        cached = None
        sent = time.monotonic()
        out: dict[str, Any] = {"run": run, "row": row, "sent": round(sent - self.start, 6), "prompt": len(prompt)}
        try:
            async for new, found in self.engines[which].tokens(prompt, request["output"], f"{run}/{row}"):
                times += [time.monotonic()] * len(new)
                tokens += new
                cached = found if cached is None else cached
                if after is not None and len(times) >= after[0]:
                    after[1].set()
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 (the engine's own errors differ between versions)
            out["error"] = f"{type(problem).__name__}: {problem}"[:300]
        finally:
            self.open[which] -= 1
            if after is not None:
                after[1].set()
        if times:
            gaps = np.rint(np.diff(times) / UNIT_S).astype(int).tolist()
            out |= {"output": len(times), "ttft": round(times[0] - sent, 6), "itl": gaps}
            out |= {"cached": cached, "engine": which}
        request["got"] = prompt + list(tokens)
        return out

    def timed(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The requests of a run, their arrivals at the share of saturation that it asks for."""
        requests = [dict(r) for r in run["requests"]]
        if "share" in run or "rate" in run:
            rate = run["rate"] if "rate" in run else run["share"] * saturation(self.folder, run["of"])
            for request in requests:
                request["at"] /= rate
            requests = [r for r in requests if r["at"] <= run.get("seconds", float("inf"))]
        return requests

    async def load(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """Open loop at given times; a request with ``after`` is sent ``wait`` [s] after that row has ended.

        Its prompt then starts with that row's prompt and answer when it says ``grow``.
        """
        requests = self.timed(run)
        ended = [asyncio.Event() for _ in requests]
        self.start = time.monotonic() + 0.05

        async def one(row: int, request: dict[str, Any]) -> dict[str, Any]:
            after = request.get("after", -1)
            if after < 0:
                await _until(self.start + request["at"])
            else:
                await ended[after].wait()
                await asyncio.sleep(request.get("wait", 0.0))
                if request.get("grow"):
                    own = self._stream(f"{run['name']}/{row}", request["prompt"] - len(requests[after]["got"]))
                    request["ids"] = requests[after]["got"] + [int(t) for t in own]
            out = await self.send(run["name"], row, request)
            ended[row].set()
            return out

        return list(await asyncio.gather(*(one(i, r) for i, r in enumerate(requests))))

    async def batch(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """``decode`` requests decode for at least ``steps`` tokens; then the prompts of ``prefill`` come beside
        them, one by one."""
        self.start = time.monotonic()
        long = {"prompt": run["context"], "output": run["most"]}
        full = run["decode"] >= run["slots"]  # no slot is left for a probe
        events = [asyncio.Event() for _ in range(run["decode"])]
        wanted = min(run["steps"], run["most"]) if full else 1
        tasks = [
            asyncio.create_task(self.send(run["name"], i, dict(long), (wanted, event)))
            for i, event in enumerate(events)
        ]
        for event in events:
            await event.wait()
        out = []
        if tasks and not full:
            out.append(await self.send(run["name"], len(tasks), {"prompt": 2, "output": run["steps"]}))
        for i, prompt in enumerate([] if full else run["prefill"]):
            out.append(await self.send(run["name"], len(tasks) + 1 + i, {"prompt": prompt, "output": 1}))
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, dict):
                out.append(result)
        return out


async def _until(at: float) -> None:
    """Sleep to the monotonic time ``at``; the event loop's clock is the same."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))


def saturation(folder: Path, flood: str) -> float:
    """Requests per second of run ``flood`` while neither filling nor draining: its middle six tenths."""
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    ends = sorted(r["sent"] + r["ttft"] + sum(r["itl"]) * UNIT_S for r in rows if r["run"] == flood and "ttft" in r)
    if len(ends) < 10:
        raise ValueError(f"run {flood!r} has {len(ends)} completed requests, 10 are needed for a rate")
    low, high = int(0.2 * len(ends)), int(0.8 * len(ends))
    return (high - low) / (ends[high] - ends[low])


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a file, a JSON object a line."""
    with path.open("a") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def done_runs(folder: Path) -> set[str]:
    """Names of the runs that are in runs.jsonl without an error; a torn last line counts for nothing."""
    found = set()
    path = folder / "runs.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "error" not in row and "run" in row:
            found.add(row["run"])
    return found
