"""Traces of others: each format, gzip, bad rows counted and refused."""

import json

import pytest
from pydantic import ValidationError
from trace_files import BENCH, BURST, COLUMNS, LOG, MOONCAKE, file, lines, packed, same

from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import LogColumns, TraceWarning, TraceWorkload, files, read_trace


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
        ServelabError, match=r"row 3: Response tokens must be at least 1 token \(0: the request failed\), got 0"
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


def test_bad_rows_of_our_own_formats_may_be_left_out(tmp_path):
    azure = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,1\n2023-11-16 18:15:46,3,4\n2023-11-16 "
        "18:15:48,5,x\n2023-11-16 18:15:49,5,6\n"
    )
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
        (
            lines([{k: v for k, v in MOONCAKE[0].items() if k != "hash_ids"}]),
            "no column 'hash_ids'; the file has timestamp",
        ),
        (
            lines([{"timestamp": 0, "input_len": 5, "output_length": 1, "hash_ids": [1]}]),
            r"no column 'input_length' \(did you mean 'input_len'\?\)",
        ),
        (lines(changed(1, hash_ids=[0])), r"row 2: the number of hash_ids must be 2 \(one per 512 tokens\), got 1"),
        (lines(changed(1, hash_ids=[0, -2])), r"row 2: hash_ids must be at least 0, got \[0, -2\]"),
        (lines(changed(1, output_length=0)), "row 2: output_length must be at least 1 token, got 0"),
        (lines(changed(1, input_length=1.5)), "row 2: input_length must be a whole number"),
        (lines(changed(1, timestamp=-1)), "row 2: timestamp must be a number of milliseconds, at least 0, got -1"),
        (lines(changed(1, timestamp=9000)), "row 3 is out of order: timestamp 2500.0 comes before 9000.0 of row 2"),
        (
            lines([*MOONCAKE[:2], '{"timestamp": 1, "inp', MOONCAKE[2]]),
            'row 3: the line must be a trace record, got \'{"timestamp": 1, "inp\'',
        ),
        (
            lines([*MOONCAKE[:2], {"timestamp": 9}, "[1]"]),
            r"row 3: the line must be a trace record, .* \(and 1 more rows\)",
        ),
        (lines([{"a": 1}]), "not a known trace: lines of a mooncake trace have timestamp, .*; the file has a"),
    ],
)
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
        (
            BURST.replace("Request tokens", "Request token"),
            r"no column 'Request tokens' \(did you mean 'Request token'\?\)",
        ),
        (BURST.replace(",", ";"), "columns must be separated by commas, got the header 'Timestamp;"),
        (BURST.splitlines()[0] + "\n", "the trace has no rows, expected at least 1"),
        (BURST.replace("45.0,", "noon,"), "row 2: Timestamp must be a number of seconds, at least 0, got 'noon'"),
        (
            BURST.replace("45.0,", "4.0,").replace(",0,", ",9,"),
            "row 2 is out of order: Timestamp 4.0 comes before 5.0 of row 1",
        ),
        (
            BURST.replace(",472,", ",,"),
            r"row 1: Request tokens must be a whole number up to 2147483647, got nothing \(NaN\)",
        ),
    ],
)
def test_bad_burstgpt_is_refused(tmp_path, text, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text, "b.csv"))


def without(*names):
    return {k: v for k, v in BENCH.items() if k not in names}


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            without("input_lens", "output_lens", "start_times"),
            "no array 'input_lens', 'output_lens', 'start_times'; .* with --save-result --save-detailed",
        ),
        (without("start_times"), "no array 'start_times'"),
        (BENCH | {"output_lens": [1]}, "output_lens has 1 entries, input_lens has 3"),
        (BENCH | {"errors": ["", "timeout", ""]}, "row 2: errors must be empty, got 'timeout'"),
        (BENCH | {"output_lens": [1, 0, 1]}, "row 2: output_lens must be at least 1 token, got 0"),
        (BENCH | {"start_times": [1, None, 1]}, r"row 2: start_times must be a number of seconds, got nothing \(NaN\)"),
        (BENCH | {"input_lens": [], "output_lens": [], "start_times": [], "errors": []}, "the trace has no rows"),
    ],
)
def test_bad_vllm_bench_is_refused(tmp_path, result, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, json.dumps(result), "r.json"))


def test_rows_left_out_stand_on_the_result(tmp_path):
    path = file(tmp_path, BURST, "b.csv")
    raw = {
        "workload": {"source": "trace", "path": str(path), "max_bad_share": 0.3},
        "deployments": [{"model": "llama-3.1-8b", "gpu": "h100", "engine": {"version": "0.32"}}],
    }
    run = simulate(Scenario.of(raw))
    assert len(run.requests) == 3 and "1 of 4 rows (25.00%) left out" in run.meta["notes"][0]


def test_appended_results_are_refused(tmp_path):
    text = json.dumps(BENCH) + "\n" + json.dumps(BENCH)
    with pytest.raises(ServelabError, match="--append-result writes several results, keep one"):
        read_trace(file(tmp_path, text, "r.json"))


def test_bad_settings_are_refused(tmp_path):
    path = file(tmp_path, BURST, "b.csv")
    with pytest.raises(ServelabError, match=r"format 'burstgp' \(did you mean 'burstgpt'\?\): expected one of auto"):
        read_trace(path, "burstgp")
    for workload in ({"format": "access_log"}, {"columns": COLUMNS.model_dump()}):
        with pytest.raises(ValidationError, match="columns are for format 'access_log', which needs them"):
            TraceWorkload.model_validate({"path": "a"} | workload)
    with pytest.raises(ValidationError, match=r"unknown time zone 'Europe/Berln' \(did you mean 'Europe/Berlin'\?\)"):
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
    with pytest.raises(ServelabError, match=r"is .* GiB, at most .* GiB of text can be held; cut it into parts"):
        read_trace(path, **options)
    monkeypatch.setattr(files, "MAX_TRACE_BYTES", max(whole.stat().st_size, len(text) - 1))
    if whole.stat().st_size < len(text):
        with pytest.raises(ServelabError, match="unpacks to more than"):
            read_trace(whole, **options)
