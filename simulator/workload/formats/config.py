"""The formats of traces that can be read: ``format`` of ``source: trace``."""

from typing import NamedTuple


class Format(NamedTuple):
    """A format: its name, what files of it hold, and where its times begin."""

    name: str
    what: str
    time: str


FORMATS = (
    Format("azure", "CSV: TIMESTAMP, ContextTokens, GeneratedTokens", "from the first request"),
    Format("servelab", "CSV or Parquet as `write_trace` makes it, sessions and closed loops included", "as it stands"),
    Format(
        "burstgpt",
        "CSV: Timestamp [s], Request tokens, Response tokens; other columns are not used",
        "as it stands: from midnight of day one",
    ),
    Format(
        "mooncake",
        "JSON lines: timestamp [ms], input_length, output_length, hash_ids (512 tokens each, shared prefixes)",
        "as it stands",
    ),
    Format(
        "vllm_bench",
        "JSON of `vllm bench serve --save-result --save-detailed`: input_lens, output_lens, start_times",
        "sorted, from the first request",
    ),
    Format("access_log", "CSV or JSON lines of a gateway, with `columns`", "sorted, from the first request"),
)
