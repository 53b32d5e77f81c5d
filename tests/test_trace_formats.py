"""Traces of others: each format, gzip, bad rows counted and refused, and the Mooncake trace through the engine."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import (
    LogColumns,
    RequestTable,
    TraceWarning,
    TraceWorkload,
    files,
    generate,
    read_trace,
)

SEED = np.random.SeedSequence(0)
MOONCAKE_TRACE = Path(__file__).parents[2] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl"
needs_mooncake = pytest.mark.skipif(not MOONCAKE_TRACE.is_file(), reason="the Mooncake trace is not here")

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


def test_mooncake(tmp_path):
    path = file(tmp_path, lines(MOONCAKE), "m.jsonl")
    table = read_trace(path)
    assert table.arrival_s.tolist() == [0.0, 0.5, 2.5]
    assert table.prompt_tokens.tolist() == [1000, 1024, 10] and table.output_tokens.tolist() == [5, 6, 7]
    assert table.segment_start.tolist() == [0, 2, 4, 5]
    assert table.segment_stream.tolist() == [0, 1, 0, 2, 3]
    assert table.segment_tokens.tolist() == [512, 488, 512, 512, 10]
    assert same(read_trace(packed(path)), table) and same(read_trace(path, "mooncake"), table)


def test_burstgpt(tmp_path):
    path = file(tmp_path, BURST, "b.csv")
    with pytest.raises(
        ServelabError,
        match=r"row 3: Response tokens must be at least 1 token \(0: the request failed\), got 0",
    ):
        read_trace(path)
    with pytest.raises(
        ServelabError, match=r"1 of 4 rows \(25.00%\) cannot be used, max_bad_share allows 20.00%: row 3"
    ):
        read_trace(path, max_bad_share=0.2)
    with pytest.warns(TraceWarning, match=r"b.csv: 1 of 4 rows \(25.00%\) left out: row 3: Response tokens"):
        table = read_trace(path, max_bad_share=0.25)
    assert table.arrival_s.tolist() == [5.0, 45.0, 118.0]
    assert table.prompt_tokens.tolist() == [472, 1087, 417] and table.output_tokens.tolist() == [18, 230, 276]
    with pytest.warns(TraceWarning):
        assert same(read_trace(packed(path), "burstgpt", max_bad_share=0.25), table)


def test_vllm_bench(tmp_path):
    path = file(tmp_path, json.dumps(BENCH), "r.json")
    table = read_trace(path)
    assert table.arrival_s.tolist() == [0.0, 1.25, 2.5]
    assert table.prompt_tokens.tolist() == [20, 30, 10] and table.output_tokens.tolist() == [2, 3, 1]
    assert same(read_trace(packed(path), "vllm_bench"), table)
    assert same(read_trace(file(tmp_path, json.dumps(BENCH, indent=1), "i.json")), table)


def test_access_log_sorts_and_understands_offsets(tmp_path):
    path = file(tmp_path, LOG, "a.log")
    table = read_trace(path, "access_log", columns=COLUMNS)
    assert table.arrival_s == pytest.approx([0, 1.5, 1800])
    assert table.prompt_tokens.tolist() == [200, 100, 300]
    assert same(read_trace(packed(path), "access_log", columns=COLUMNS), table)
    config = TraceWorkload(path=path.name, format="access_log", columns=COLUMNS)
    assert same(generate(config, SEED, tmp_path), table)


def test_access_log_of_json_lines(tmp_path):
    records = [
        {"ts": 1700000002500, "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "limit": 9},
        {"ts": 1700000000000, "usage": {"prompt_tokens": 8, "completion_tokens": 4}, "limit": 4},
    ]
    columns = LogColumns(
        time="ts", time_unit="ms", prompt_tokens="usage.prompt_tokens",
        output_tokens="usage.completion_tokens", max_tokens="limit",
    )  # fmt: skip
    path = file(tmp_path, lines(records), "a.jsonl")
    table = read_trace(path, "access_log", columns=columns)
    assert table.arrival_s.tolist() == [0.0, 2.5] and table.prompt_tokens.tolist() == [8, 7]
    assert table.max_tokens.tolist() == [4, 9]
    path = file(tmp_path, lines([records[0], "oops", records[1]]), "b.jsonl")
    with pytest.raises(ServelabError, match="row 2: the line must be a JSON object, got 'oops'"):
        read_trace(path, "access_log", columns=columns)
    with pytest.warns(TraceWarning, match="1 of 3 rows"):
        assert same(read_trace(packed(path), "access_log", columns=columns, max_bad_share=0.5), table)


def test_access_log_in_the_format_of_nginx(tmp_path):
    text = "t,p,o\n01/Jun/2024:12:00:00 +0200,5,6\n01/Jun/2024:10:00:01 +0000,7,8\n"
    columns = LogColumns(time="t", prompt_tokens="p", output_tokens="o", time_format="%d/%b/%Y:%H:%M:%S %z")
    assert read_trace(file(tmp_path, text, "n.csv"), "access_log", columns=columns).arrival_s.tolist() == [
        0.0,
        1.0,
    ]


def test_clock_changes_need_a_time_zone(tmp_path):
    times = ["2024-10-27 00:30:00", "2024-10-27 04:30:00"]  # Berlin sets its clock back by an hour between
    columns = {"time": "t", "prompt_tokens": "p", "output_tokens": "o"}
    path = file(tmp_path, "t,p,o\n" + "".join(f"{t},1,1\n" for t in times), "t.csv")
    for zone, hours in ((None, 4), ("Europe/Berlin", 5), ("UTC", 4)):
        table = read_trace(path, "access_log", columns=LogColumns(**columns, timezone=zone))
        assert table.arrival_s[1] == hours * 3600
    path = file(tmp_path, "t,p,o\n2024-10-27 02:30:00,1,1\n", "twice.csv")
    with pytest.raises(ServelabError, match="once in Europe/Berlin, got '2024-10-27 02:30:00'"):
        read_trace(path, "access_log", columns=LogColumns(**columns, timezone="Europe/Berlin"))
    path = file(tmp_path, "t,p,o\n2024-10-27T02:30:00Z,1,1\n2024-10-27T02:31:00,1,1\n", "mixed.csv")
    with pytest.raises(ServelabError, match=r"row 2: t must be .* with an offset \(or set timezone\)"):
        read_trace(path, "access_log", columns=LogColumns(**columns))


def test_bad_rows_of_our_own_formats_may_be_left_out(tmp_path):
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,1\n2023-11-16 18:15:46,3,4\n2023-11-16 18:15:48,5,x\n2023-11-16 18:15:49,5,6\n"
    with pytest.warns(
        TraceWarning, match=r"2 of 4 rows \(50.00%\) left out: row 1: TIMESTAMP .*; row 3: GeneratedTokens"
    ):
        table = read_trace(file(tmp_path, azure, "a.csv"), max_bad_share=0.5)
    assert table.arrival_s.tolist() == [0.0, 3.0] and table.prompt_tokens.tolist() == [3, 5]
    ours = "arrival_s,prompt_tokens,output_tokens,prefix_segments\n0.5,10,5,0:4\n1.5,0,6,\n2.5,9,9,0:4;1:2\n"
    with pytest.warns(TraceWarning, match="1 of 3 rows"):
        table = read_trace(file(tmp_path, ours, "s.csv"), max_bad_share=0.5)
    assert table.arrival_s.tolist() == [0.5, 2.5] and table.segment_stream.tolist() == [0, 0, 1]


def changed(row, **changes):
    return [m | changes if i == row else m for i, m in enumerate(MOONCAKE)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"m.jsonl: the trace is empty \(0 bytes\)"),
        (lines([{k: v for k, v in MOONCAKE[0].items() if k != "hash_ids"}]), "no column 'hash_ids'; the file has timestamp"),
        (lines([{"timestamp": 0, "input_len": 5, "output_length": 1, "hash_ids": [1]}]), r"no column 'input_length' \(did you mean 'input_len'\?\)"),
        (lines(changed(1, hash_ids=[0])), r"row 2: the number of hash_ids must be 2 \(one per 512 tokens\), got 1"),
        (lines(changed(1, hash_ids=[0, -2])), r"row 2: hash_ids must be at least 0, got \[0, -2\]"),
        (lines(changed(1, output_length=0)), "row 2: output_length must be at least 1 token, got 0"),
        (lines(changed(1, input_length=1.5)), "row 2: input_length must be a whole number"),
        (lines(changed(1, timestamp=-1)), "row 2: timestamp must be a number of milliseconds, at least 0, got -1"),
        (lines(changed(1, timestamp=9000)), "row 3 is out of order: timestamp 2500.0 comes before 9000.0 of row 2"),
        (lines([*MOONCAKE[:2], '{"timestamp": 1, "inp', MOONCAKE[2]]), "row 3: the line must be a trace record, got '{\"timestamp\": 1, \"inp'"),
        (lines([*MOONCAKE[:2], {"timestamp": 9}, "[1]"]), r"row 3: the line must be a trace record, .* \(and 1 more rows\)"),
        (lines([{"a": 1}]), "not a known trace: lines of a mooncake trace have timestamp, .*; the file has a"),
    ],
)  # fmt: skip
def test_bad_mooncake_is_refused(tmp_path, text, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text, "m.jsonl"))


def test_bad_mooncake_lines_are_left_out(tmp_path):
    table = read_trace(file(tmp_path, lines(MOONCAKE), "m.jsonl"))
    for bad in (
        "oops",
        changed(0, hash_ids=[9])[0],
        changed(0, output_length=None)[0],
        {**MOONCAKE[0], "output_length": 0},
    ):
        path = file(tmp_path, lines([*MOONCAKE[:2], bad, MOONCAKE[2]]), "bad.jsonl")
        with pytest.warns(TraceWarning, match=r"1 of 4 rows \(25.00%\) left out: row 3"):
            assert same(read_trace(path, max_bad_share=0.3), table)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BURST.replace("Request tokens", "Request token"), r"no column 'Request tokens' \(did you mean 'Request token'\?\)"),
        (BURST.replace(",", ";"), "columns must be separated by commas, got the header 'Timestamp;"),
        (BURST.splitlines()[0] + "\n", "the trace has no rows, expected at least 1"),
        (BURST.replace("45.0,", "noon,"), "row 2: Timestamp must be a number of seconds, at least 0, got 'noon'"),
        (BURST.replace("45.0,", "4.0,").replace(",0,", ",9,"), "row 2 is out of order: Timestamp 4.0 comes before 5.0 of row 1"),
        (BURST.replace(",472,", ",,"), r"row 1: Request tokens must be a whole number up to 2147483647, got nothing \(NaN\)"),
    ],
)  # fmt: skip
def test_bad_burstgpt_is_refused(tmp_path, text, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text, "b.csv"))


def without(*names):
    return {k: v for k, v in BENCH.items() if k not in names}


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (without("input_lens", "output_lens", "start_times"), "no array 'input_lens', 'output_lens', 'start_times'; .* with --save-result --save-detailed"),
        (without("start_times"), "no array 'start_times'"),
        (BENCH | {"output_lens": [1]}, "output_lens has 1 entries, input_lens has 3"),
        (BENCH | {"errors": ["", "timeout", ""]}, "row 2: errors must be empty, got 'timeout'"),
        (BENCH | {"output_lens": [1, 0, 1]}, "row 2: output_lens must be at least 1 token, got 0"),
        (BENCH | {"start_times": [1, None, 1]}, r"row 2: start_times must be a number of seconds, got nothing \(NaN\)"),
        (BENCH | {"input_lens": [], "output_lens": [], "start_times": [], "errors": []}, "the trace has no rows"),
    ],
)  # fmt: skip
def test_bad_vllm_bench_is_refused(tmp_path, result, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, json.dumps(result), "r.json"))


def test_appended_results_are_refused(tmp_path):
    text = json.dumps(BENCH) + "\n" + json.dumps(BENCH)
    with pytest.raises(ServelabError, match="--append-result writes several results, keep one"):
        read_trace(file(tmp_path, text, "r.json"))


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        (LOG, {"prompt_tokens": "inn"}, r"no column 'inn' \(did you mean 'in'\?\); the file has when, route, in, out"),
        (LOG, {"delimiter": ","}, "columns must be separated by ',', got the header 'when;route;in;out'"),
        (LOG.replace(";200;", ";many;"), {}, "row 2: in must be a whole number up to 2147483647, got 'many'"),
        (LOG.replace("12:00:00", "late"), {}, "row 2: when must be a time such as .*, got '2024-06-01Tlate'"),
        (LOG.splitlines()[0] + "\n", {}, "the trace has no rows"),
        ('{"when": 1, "usage": {"in": 2, "out": 3}}\n', {"prompt_tokens": "usage.inn"}, r"no column 'usage.inn' \(did you mean 'usage.in'\?\)"),
    ],
)  # fmt: skip
def test_bad_log_is_refused(tmp_path, text, columns, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text, "a.log"), "access_log", columns=COLUMNS.model_copy(update=columns))


def test_bad_settings_are_refused(tmp_path):
    path = file(tmp_path, BURST, "b.csv")
    with pytest.raises(
        ServelabError, match=r"format 'burstgp' \(did you mean 'burstgpt'\?\): expected one of auto"
    ):
        read_trace(path, "burstgp")
    for workload in ({"format": "access_log"}, {"columns": COLUMNS.model_dump()}):
        with pytest.raises(ValidationError, match="columns are for format 'access_log', which needs them"):
            TraceWorkload.model_validate({"path": "a"} | workload)
    with pytest.raises(
        ValidationError, match=r"unknown time zone 'Europe/Berln' \(did you mean 'Europe/Berlin'\?\)"
    ):
        LogColumns(time="t", prompt_tokens="p", output_tokens="o", timezone="Europe/Berln")
    with pytest.raises(ValidationError, match="less than 1"):
        TraceWorkload(path="a", max_bad_share=1.0)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        (BURST, "b.csv", {"max_bad_share": 0.5}),
        (lines(MOONCAKE), "m.jsonl", {}),
        (json.dumps(BENCH), "r.json", {}),
        (LOG, "a.log", {"format": "access_log", "columns": COLUMNS}),
    ],
)
def test_too_large_and_damaged_files_are_refused(tmp_path, monkeypatch, text, name, options):
    path = file(tmp_path, text, name)
    whole = packed(path)
    cut = path.with_name("cut-" + whole.name)
    cut.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(ServelabError, match=r"cut-.*: cannot be read as a trace: "):
        read_trace(cut, **options)
    monkeypatch.setattr(files, "MAX_TRACE_BYTES", path.stat().st_size - 1)
    with pytest.raises(
        ServelabError, match=r"is .* GiB, at most .* GiB of text can be held; cut it into parts"
    ):
        read_trace(path, **options)
    monkeypatch.setattr(files, "MAX_TRACE_BYTES", max(whole.stat().st_size, len(text) - 1))
    if whole.stat().st_size < len(text):
        with pytest.raises(ServelabError, match="unpacks to more than"):
            read_trace(whole, **options)


def infinite_cache(table):
    """Share of 512-token blocks whose id was seen before."""
    seen = np.zeros(len(table.segment_stream), bool)
    seen[np.unique(table.segment_stream, return_index=True)[1]] = True
    return 1 - seen.mean(), 1 - table.segment_tokens[seen].sum() / table.prompt_tokens.sum()


@needs_mooncake
def test_mooncake_in_an_infinite_cache_has_the_published_hit_ratio():
    table = read_trace(MOONCAKE_TRACE)
    blocks, tokens = infinite_cache(table)
    assert len(table) == 12_031 and table.prompt_tokens.sum() == table.segment_tokens.sum()
    assert blocks == pytest.approx(0.366, abs=0.0005)  # the authors' 36.6 %, a share of blocks
    assert tokens == pytest.approx(0.3736, abs=0.0001)  # by tokens: last blocks are partial and seldom shared


def served(blocks, **workload):
    """The engine's records for the trace; one output token each, so that prompts alone fill the pool."""
    engine = {
        "version": "0.32",
        "max_model_len": 131_072,
        "num_gpu_blocks_override": blocks,
        "block_size": 16,
    }
    deployment = {
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "engine": engine,
        "step_time": {"kind": "constant", "seconds": 1e-4},
    }
    source = {"source": "trace", "path": str(MOONCAKE_TRACE), "max_tokens": 1} | workload
    return simulate(Scenario.of({"workload": source, "deployments": [deployment]})).requests


@needs_mooncake
def test_mooncake_through_the_engine_with_a_huge_pool():
    requests = served(10_000_000)
    cached, prompt = np.asarray(requests["cached_tokens"]), np.asarray(requests["prompt_tokens"])
    table = read_trace(MOONCAKE_TRACE)
    blocks, tokens = infinite_cache(table)
    # 16-token blocks, of which a prompt's last is always computed: fewer tokens than ids promise, by less than 0.1 %
    assert tokens * 0.999 < cached.sum() / prompt.sum() <= tokens
    assert np.sum(-(-cached // 512)) / np.diff(table.segment_start).sum() == pytest.approx(blocks, abs=0.0005)


@needs_mooncake
def test_mooncake_hits_fall_as_the_pool_shrinks():
    ratios = []
    for blocks in (10_000_000, 300_000, 100_000, 20_000):
        requests = served(blocks, limit=3000)
        ratios.append(
            np.asarray(requests["cached_tokens"]).sum() / np.asarray(requests["prompt_tokens"]).sum()
        )
    assert np.all(np.diff(ratios) < -0.01), ratios
