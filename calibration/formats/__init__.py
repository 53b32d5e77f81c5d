"""Measurements that people have: readers by format, recognised from the content.

A reader gives a `calibration.measure.measured.MeasuredRun`, names what a file lacks, and makes nothing up; the tools
that fit and judge live elsewhere.
"""

import json
from pathlib import Path
from typing import NamedTuple

from calibration.formats import guidellm, inference_perf, llmservingsim, vllm_bench
from calibration.measure.measured import MeasuredRun
from simulator.errors import ServelabError


class File(NamedTuple):
    """A kind of file: what it is called, what it can be used for, and what it cannot tell."""

    name: str
    use: str
    cannot: str


FILES = (
    File("folder of `servelab calibrate`", "fit, validate, drift", ""),
    File(
        "`vllm bench serve --save-result --save-detailed`",
        "validate, drift",
        "batches; without `start_times` (old versions) it cannot be replayed",
    ),
    File("GuideLLM report", "validate, drift", "times of single tokens"),
    File("inference-perf `per_request_lifecycle_metrics.json`", "validate, drift", "batches"),
    File("LLMServingSim `bench` folder", "validate, drift", "times of single tokens"),
    File(
        "vLLM's log with `--enable-logging-iteration-details`",
        "fit: `servelab fit-log LOG --model M --gpu G --out P.json`",
        "contexts: `prefill_pair_s` and `decode_kv_s` cannot be known",
    ),
    File(
        "two scrapes of `/metrics`",
        "`servelab validate metrics RESULT --before F --after F`: means and buckets",
        "any coefficient",
    ),
)
FORMATS = {
    "vllm bench serve JSON": vllm_bench,
    "GuideLLM report": guidellm,
    "inference-perf per_request_lifecycle_metrics.json": inference_perf,
}


def read_runs(path: Path) -> list[MeasuredRun]:
    """The load tests of a file. Raises ServelabError for a file of no known format, naming those known."""
    if path.is_dir() and llmservingsim.knows(path):
        return [llmservingsim.read(path)]
    if not path.is_file():
        raise ServelabError(f"{str(path)!r}: no such file or folder")
    try:
        data = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ServelabError(f"{path.name} is not JSON, or cut off: {problem}") from None
    for reader in FORMATS.values():
        if reader.knows(data):
            found = reader.read(path)
            return found if isinstance(found, list) else [found]
    raise ServelabError(f"{path.name}: the format is not known; known are {', '.join(FORMATS)}")
