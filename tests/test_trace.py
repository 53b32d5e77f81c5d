"""Traces in and out: the round trip, replay, and each refusal's message."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from simulator.errors import ServelabError
from simulator.workload import PoissonWorkload, RequestTable, TraceWorkload, generate, read_trace, write_trace

SEED = np.random.SeedSequence(0)
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2000000,879,55
2023-11-16 18:15:56.6805900,91,16
"""


def file(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def same(a: RequestTable, b: RequestTable) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in RequestTable.__dataclass_fields__)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("prefix", [None, {"groups": 4, "tokens": 32, "share": 0.7}])
def test_round_trip(tmp_path, ending, prefix):
    lengths = {"kind": "lognormal", "median": 300.0, "sigma": 1.0}
    config = PoissonWorkload.model_validate(
        {"rate_rps": 3.0, "requests": 500, "prompt_tokens": lengths, "output_tokens": lengths}
        | {"priority_weights": {0: 1.0, 7: 1.0}, "shared_prefix": prefix}
    )
    table = generate(config, SEED)
    path = write_trace(table, tmp_path / f"t.{ending}")
    assert same(read_trace(path), table)
    assert same(generate(TraceWorkload(path=path.name), SEED, tmp_path), table)


def test_write_refuses_another_ending_and_an_existing_file(tmp_path):
    table = RequestTable.from_columns(np.zeros(1), np.ones(1), np.ones(1))
    with pytest.raises(ServelabError, match=r"must end in .csv, .csv.gz or .parquet, got '.xlsx'"):
        write_trace(table, tmp_path / "t.xlsx")
    write_trace(table, tmp_path / "t.csv")
    with pytest.raises(ServelabError, match="t.csv exists"):
        write_trace(table, tmp_path / "t.csv")


def test_azure_columns_and_clock(tmp_path):
    table = read_trace(file(tmp_path, AZURE))
    assert table.arrival_s == pytest.approx([0, 4.314579, 4.51941, 10.0])
    assert table.prompt_tokens.tolist() == [374, 396, 879, 91]
    assert table.max_tokens.tolist() == table.output_tokens.tolist() == [44, 109, 55, 16]
    zoned = AZURE.replace(",374", "+00:00,374").replace(",396", "+00:00,396").replace(",879", "+00:00,879")
    assert same(read_trace(file(tmp_path, zoned.replace(",91,", "+00:00,91,"), "z.csv")), table)
    with gzip.open(tmp_path / "t.csv.gz", "wt") as out:
        out.write(AZURE)
    assert same(read_trace(tmp_path / "t.csv.gz"), table)


def test_replay_takes_a_part_and_changes_its_speed(tmp_path):
    path = file(tmp_path, AZURE)
    config = TraceWorkload(path=str(path), start_s=4.0, end_s=10.0, rate_scale=2.0, max_tokens=60)
    table = generate(config, SEED)
    assert table.arrival_s == pytest.approx([0.1572895, 0.259705])
    assert table.output_tokens.tolist() == [60, 55] and table.max_tokens.tolist() == [60, 60]
    assert len(generate(TraceWorkload(path=str(path), limit=3), SEED)) == 3
    with pytest.raises(
        ServelabError, match=r"no request between start_s 20.0 and end_s None; the trace lasts 10.000 s"
    ):
        generate(TraceWorkload(path=str(path), start_s=20.0), SEED)


def test_bad_replay_is_refused():
    for changes, says in (
        ({"rate_scale": -1.0}, "greater than 0"),
        ({"rate_scale": float("nan")}, "finite"),
        ({"start_s": 5.0, "end_s": 5.0}, r"end_s must be greater than start_s \(5.0\), got 5.0"),
        ({"format": "csv"}, "'auto', 'azure' or 'servelab'"),
        ({"limit": 0}, "greater than or equal to 1"),
    ):
        with pytest.raises(ValidationError, match=says):
            TraceWorkload.model_validate({"path": "t.csv"} | changes)


OURS = "arrival_s,prompt_tokens,output_tokens\n0.5,10,5\n1.5,20,6\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"t.csv: the trace is empty \(0 bytes\)"),
        (AZURE.splitlines()[0] + "\n", "the trace has no rows, expected at least 1"),
        (
            AZURE.replace("ContextTokens", "ContextToken"),
            r"no column 'ContextTokens' \(did you mean 'ContextToken'\?\)",
        ),
        (AZURE.replace("ContextTokens", "x"), "no column 'ContextTokens'; the file has TIMESTAMP, x, GeneratedTokens"),
        (OURS.replace("prompt_tokens", "prompt_len"), r"no column 'prompt_tokens' \(did you mean 'prompt_len'\?\)"),
        (
            OURS.replace("_s,", "_s,max_token,").replace(",10", ",9,10").replace(",20", ",9,20"),
            r"unknown column 'max_token' \(did you mean 'max_tokens'\?\)",
        ),
        ("a,b\n1,2\n", "not a known trace: format 'azure' has TIMESTAMP, ContextTokens, GeneratedTokens"),
        (AZURE.replace(",", ";"), "columns must be separated by commas"),
        (
            AZURE.replace("18:15:51.2000000", "18:15:49.0000000"),
            (
                "row 3 is out of order: TIMESTAMP 2023-11-16 18:15:49.0000000 comes before 2023-11-16 18:15:50.9951690 "
                "of row 2"
            ),
        ),
        (OURS.replace("1.5", "0.25"), "row 2 is out of order: arrival_s 0.25 comes before 0.5 of row 1"),
        (AZURE.replace("396", "0"), "row 2: ContextTokens must be at least 1 token, got 0"),
        (AZURE.replace(",55", ",-3"), "row 3: GeneratedTokens must be at least 1 token, got -3"),
        (
            AZURE.replace(",55", ","),
            r"row 3: GeneratedTokens must be a whole number up to 2147483647, got nothing \(NaN\)",
        ),
        (AZURE.replace(",55", ",5.5"), "row 3: GeneratedTokens must be a whole number up to 2147483647, got 5.5"),
        (AZURE.replace(",55", ",many"), "row 3: GeneratedTokens must be a whole number up to 2147483647, got 'many'"),
        (
            AZURE.replace(",879", ",9999999999"),
            "row 3: ContextTokens must be a whole number up to 2147483647, got 9999999999",
        ),
        (
            AZURE.replace("2023-11-16 18:15:51.2000000", "yesterday"),
            "row 3: TIMESTAMP must be a time such as .*, got 'yesterday'",
        ),
        (
            OURS.replace("1.5", "nan").replace("0.5", "nan"),
            r"row 1: arrival_s must be a number of seconds, got nothing \(NaN\) \(and 1 more rows\)",
        ),
        (OURS.replace("0.5", "-0.5"), "request 0: arrival_s must be at least 0 s, got -0.5"),
    ],
)
def test_bad_file_is_refused(tmp_path, text, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text))


def test_bad_prefix_is_refused(tmp_path):
    frame = pd.read_csv(file(tmp_path, OURS)).assign(prefix_segments=["0:4", "0=4"])
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ServelabError, match=r"request 1: prefix_segments must look like '3:512;r7:64'.*got '0=4'"):
        read_trace(tmp_path / "t.parquet")


def test_missing_file_names_the_nearest(tmp_path):
    file(tmp_path, AZURE, "azure_conv.csv")
    with pytest.raises(ServelabError, match=r"no such trace file \(did you mean 'azure_conv.csv'\?\)"):
        read_trace(tmp_path / "azure_con.csv")


def test_not_parquet(tmp_path):
    with pytest.raises(ServelabError, match="cannot be read as a trace"):
        read_trace(file(tmp_path, AZURE, "t.parquet"))
