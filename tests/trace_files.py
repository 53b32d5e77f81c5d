"""Small trace files of each format."""

import gzip
import json
from pathlib import Path

import numpy as np

from simulator.workload import LogColumns, RequestTable

SEED = np.random.SeedSequence(0)
MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
    {"timestamp": 500, "input_length": 1024, "output_length": 6, "hash_ids": [0, 2]},
    {"timestamp": 2500, "input_length": 10, "output_length": 7, "hash_ids": [3]},
]
BURST = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5.0,1,2.5,ChatGPT,472,18,490,Conversation log
45.0,2,9.1,GPT-4,1087,230,1317,API log
45.5,2,0.1,GPT-4,400,0,400,API log
118.0,3,1.0,ChatGPT,417,276,693,Conversation log
"""
BENCH = {
    "date": "20260101-000000",
    "num_prompts": 3,
    "completed": 3,
    "input_lens": [10, 20, 30],
    "output_lens": [1, 2, 3],
    "ttfts": [0.1, 0.1, 0.1],
    "itls": [[], [0.1], [0.1, 0.1]],
    "start_times": [107.5, 105.0, 106.25],
    "errors": ["", "", ""],
}
LOG = """when;route;in;out
2024-06-01T12:00:01.5;/v1/chat;100;10
2024-06-01T12:00:00;/v1/chat;200;20
2024-06-01T14:30:00+02:00;/v1/chat;300;30
"""
COLUMNS = LogColumns(time="when", prompt_tokens="in", output_tokens="out", timezone="Etc/UTC", delimiter=";")


def lines(records) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)


def file(tmp_path: Path, text: str, name: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def packed(path: Path) -> Path:
    out = path.with_name(path.name + ".gz")
    out.write_bytes(gzip.compress(path.read_bytes()))
    return out


def same(a: RequestTable, b: RequestTable) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in RequestTable.__dataclass_fields__)
