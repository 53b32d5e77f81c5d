"""Measures any OpenAI-compatible server over HTTP, streaming: ``/v1/completions`` with prompts as token ids.

Fits the place of an engine in `calibration.oracle.client.Client`, so the same runs are made: batches held at a
size and context, open loops at given times, closed loops and sessions. What happens inside the server is not seen:
`calibration.fit.http` says what can be known.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from calibration.oracle.campaign import FLOOD, batches, flood, load, mix
from calibration.oracle.client import Client, append, done_runs
from simulator.errors import ServelabError

TIMEOUT_S = 600.0


class Server:
    """One server, as `Client` uses an engine."""

    def __init__(self, url: str, model: str, client: httpx.AsyncClient) -> None:
        self.url, self.model, self.client = url.rstrip("/"), model, client

    async def tokens(self, prompt: list[int], output: int, name: str) -> AsyncIterator[tuple[list[int], int | None]]:
        """Token ids as they come (0 where the server does not say them), and the tokens found in its prefix cache once
        known.

        Raises httpx.HTTPError where the server fails, which counts as a failed request.
        """
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": output,
            "min_tokens": output,
            "ignore_eos": True,
            "stream": True,
            "temperature": 0.0,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
        async with self.client.stream("POST", f"{self.url}/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode(errors="replace")
                raise httpx.HTTPStatusError(
                    f"{answer.status_code}: {text[:200]}", request=answer.request, response=answer
                )
            async for line in answer.aiter_lines():
                if not line.startswith("data:") or line.strip() == "data: [DONE]":
                    continue
                chunk = json.loads(line[5:])
                if "error" in chunk:
                    raise httpx.HTTPError(str(chunk["error"])[:200])
                usage = chunk.get("usage") or {}
                cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
                for choice in chunk.get("choices", ()):
                    if choice.get("token_ids") or choice.get("text") is not None:
                        yield choice.get("token_ids") or [0], cached
                if not chunk.get("choices"):
                    yield [], cached


@dataclass(frozen=True)
class Loads:
    """The load tests of a campaign: mean prompt and output [token], and the seed of everything drawn."""

    prompt: float
    output: float
    seed: int


def plan(
    model: str, url: str, concurrency: int, longest: int, vocabulary: int, load_s: float, loads: Loads
) -> dict[str, Any]:
    """A campaign over HTTP: up to ``concurrency`` sequences and contexts up to ``longest`` [token], then loads."""
    prompt, output, seed = loads.prompt, loads.output, loads.seed
    base = mix(2000, min(prompt, longest / 4), min(output, longest / 4), longest, seed + 1)
    budget = min(2048, longest // 2)
    runs = batches(concurrency + 1, budget, longest, concurrency * longest, seed=seed)
    runs = [r for r in runs if r["decode"] <= concurrency]
    runs.append(flood(FLOOD, base[: 4 * concurrency]))
    for share in (0.3, 0.6, 0.9):
        requests = mix(2000, min(prompt, longest / 4), min(output, longest / 4), longest, seed + int(100 * share))
        runs.append(load(f"api-{share:.0%}", requests, share, phase="api") | {"seconds": load_s / 2})
    for repeat in range(2):
        for share in (0.5, 0.85):
            runs.append(load(f"mix-{share:.0%}-{repeat}", base, share) | {"seconds": load_s})
    return {"model": model, "url": url, "seed": seed, "vocabulary": vocabulary, "runs": runs}


async def campaign(folder: Path) -> int:
    """All runs of the plan in ``folder`` that are not done; 0 when all are, 4 when the server could no longer be
    reached.

    Raises ServelabError where it cannot be reached at the start.
    """
    asked = json.loads((folder / "plan.json").read_text())
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=httpx.Limits(max_connections=None)) as http:
        await _check(http, asked["url"], folder)
        client = Client([Server(asked["url"], asked["served"], http)], asked["vocabulary"], asked["seed"], folder)
        done = done_runs(folder)
        for run in asked["runs"]:
            if run["name"] in done:
                continue
            began = time.monotonic()
            rows = await getattr(client, run["kind"])(run)
            append(folder / "requests.jsonl", rows)
            said = {
                "run": run["name"],
                "start": round(client.start, 6),
                "began": round(began, 6),
                "end": round(time.monotonic(), 6),
            }
            errors = [r["error"] for r in rows if "error" in r]
            if errors and len(errors) == len(rows):
                append(folder / "runs.jsonl", [{"run": run["name"], "error": f"all requests failed: {errors[0]}"}])
                return 4
            append(folder / "runs.jsonl", [said | ({"failed": len(errors)} if errors else {})])
    return 0


async def _check(http: httpx.AsyncClient, url: str, folder: Path) -> None:
    """Note what the server says of itself. Raises ServelabError where nobody answers."""
    try:
        answer = await http.get(f"{url.rstrip('/')}/version", timeout=10.0)
    except httpx.HTTPError as problem:
        raise ServelabError(
            f"--url {url!r}: the server cannot be reached ({type(problem).__name__}: {problem})"
        ) from None
    version = answer.json().get("version", "unknown") if answer.status_code == 200 else "unknown"
    if not (folder / "engine.jsonl").exists():
        append(
            folder / "engine.jsonl",
            [{"vllm": version, "date": time.strftime("%Y-%m-%d"), "engine": {}, "gpu": None, "url": url}],
        )


def _flags(folder: Path) -> dict[str, Any]:
    """What the user said of the server's flags."""
    file = folder / "flags.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def measure(folder: Path) -> int:
    """`campaign`, run to its end; 130 after Ctrl-C."""
    try:
        return asyncio.run(campaign(folder))
    except KeyboardInterrupt:
        return 130
