import hashlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders import events, instances, meta, requests, result, timeline

from simulator.errors import ServelabError
from simulator.records.frames import COLUMNS
from simulator.records.tables import empty
from simulator.results.result import Result


@pytest.fixture
def full():
    columns = requests(50)
    columns["first_token_s"][3] = np.nan
    tables = {
        "requests": columns,
        "instances": instances([(0.0, 9.5), (3.0, 7.25)]),
        "timeline": timeline([0.0, 10.0], [4, 5], 100, 16),
        "steps": empty("steps", 3),
        "events": events([1.0, 2.0]),
    }
    return Result.from_columns(meta(notes=["ünïcode"]), tables, [30, 10, 30, 5], [1, 2, 3, 0])


@pytest.mark.parametrize("tables", ["full", "empty"])
def test_round_trip(tmp_path, full, tables):
    run = full if tables == "full" else Result.from_columns(meta(), {})
    again = Result.load(run.to_parquet(tmp_path / "out"))
    assert again.meta == run.meta
    for name in COLUMNS:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(run, name), check_exact=True)
    pd.testing.assert_frame_equal(again.summary(), run.summary(), check_exact=True)


def test_dtypes_and_units(tmp_path, full):
    folder = full.to_parquet(tmp_path / "a" / "b")
    for name, columns in COLUMNS.items():
        schema = pq.read_schema(folder / f"{name}.parquet")
        assert [f.name for f in schema] == [c.name for c in columns]
        for f, c in zip(schema, columns, strict=True):
            assert f.metadata[b"unit"].decode() == c.unit
            if c.dtype != "U":
                assert getattr(full, name)[c.name].dtype == np.dtype(c.dtype)


def test_same_bytes(tmp_path, full):
    def digest(folder):
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}

    assert digest(full.to_parquet(tmp_path / "a")) == digest(full.to_parquet(tmp_path / "b"))


def test_histogram_is_merged(full):
    assert full.itl.to_dict("list") == {"value_us": [10, 30], "count": [2, 4]}


def test_existing_folder(tmp_path, full):
    folder = full.to_parquet(tmp_path / "out")
    (folder / "report.html").write_text("mine")
    with pytest.raises(ServelabError, match="out.*exists already"):
        full.to_parquet(folder)
    full.to_parquet(folder, overwrite=True)
    assert (folder / "report.html").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ServelabError, match="not a folder"):
        full.to_parquet(file, overwrite=True)


def test_broken_folder(tmp_path, full):
    with pytest.raises(ServelabError, match="nowhere.*does not exist"):
        Result.load(tmp_path / "nowhere")
    folder = full.to_parquet(tmp_path / "out")
    (folder / "steps.parquet").unlink()
    with pytest.raises(ServelabError, match="lacks steps.parquet"):
        Result.load(folder)
    (folder / "meta.json").unlink()
    with pytest.raises(ServelabError, match="no meta.json"):
        Result.load(folder)


def test_wrong_columns():
    columns = requests(3)
    columns["arival_s"] = columns.pop("arrival_s")
    with pytest.raises(ServelabError, match="did you mean 'arrival_s'"):
        Result.from_columns(meta(), {"requests": columns})
    columns = requests(3)
    del columns["end_s"]
    with pytest.raises(ServelabError, match="lacks the column 'end_s'"):
        Result.from_columns(meta(), {"requests": columns})
    columns = requests(3)
    columns["end_s"] = columns["end_s"][:2]
    with pytest.raises(ServelabError, match="differ in length"):
        Result.from_columns(meta(), {"requests": columns})
    with pytest.raises(ServelabError, match="did you mean 'requests'"):
        Result.from_columns(meta(), {"request": columns})


def test_columns_are_not_copied():
    columns = requests(1000)
    frame = result(columns).requests
    assert np.shares_memory(frame["arrival_s"].to_numpy(), columns["arrival_s"])


def test_partial_is_said():
    columns = requests(100, service_s=0.01)
    columns["state"][95:] = 0
    columns["end_s"][95:] = np.nan
    run = result(columns, partial=True)
    assert run.counts()["in_flight"] == 5
    assert "partial result: 5 requests still in flight" in run.verdict()
