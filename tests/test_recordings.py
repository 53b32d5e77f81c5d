"""Recorded schedules of real vLLM 0.32 replay identically, and a wrong one is found."""

import copy
import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration.judge.schedules import read_recordings, replay
from simulator.command.app import app
from simulator.errors import ServelabError

GOLDENS = sorted((Path(__file__).parent / "data").glob("*.jsonl.gz"))


def all_identical(path):
    found = [replay(name, recording) for name, recording in read_recordings(path)]
    assert found
    assert [f"{r.name}: {r.difference}" for r in found if not r.identical] == []
    assert all(r.batches == r.planned for r in found)
    return found


@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.name)
def test_goldens(path):
    counts = [r.counts for r in all_identical(path)]
    assert sum(c["preemptions"] for c in counts) > 0


def test_goldens_are_there():
    assert len(GOLDENS) == 2


def test_shared_recordings(shared_data):
    files = sorted((shared_data / "vllm_schedules").glob("*.json*"))
    assert len(files) == 11
    assert sum(len(all_identical(f)) for f in files) == 50


def one(kind):
    for path in GOLDENS:
        if kind in path.name:
            return next(iter(read_recordings(path)))
    raise AssertionError(kind)


def test_a_changed_token_count_is_found():
    name, recording = one("wide")
    wrong = copy.deepcopy(recording)
    number, event = [(i, e) for i, e in enumerate(e for e in wrong["events"] if "schedule" in e) if e["schedule"]][5]
    request = next(iter(event["schedule"]))
    event["schedule"][request] += 1
    found = replay(name, wrong)
    assert not found.identical and found.batches == number
    assert request in found.difference and "tokens per request" in found.difference


@pytest.mark.parametrize("field", ["free_blocks", "computed_before", "preempted", "finished"])
def test_any_other_changed_decision_is_found(field):
    name, recording = one("narrow")
    wrong = copy.deepcopy(recording)
    events = [e for e in wrong["events"] if e.get(field) not in (None, [], {})] or [
        e for e in wrong["events"] if field in e
    ]
    event = events[0]
    if field == "free_blocks":
        event[field] += 1
    elif field == "computed_before":
        event[field][next(iter(event[field]))] += 16
    else:
        event[field] = ["r000"] if event[field] != ["r000"] else []
    assert not replay(name, wrong).identical


def test_command(tmp_path):
    _, recording = one("narrow")
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.json"
    good.write_text(json.dumps(recording))
    recording["events"][1]["free_blocks"] += 1
    bad.write_text(json.dumps(recording))
    run = CliRunner().invoke(app, ["validate", "schedule", str(good)])
    batches = sum("schedule" in e for e in recording["events"])
    assert run.exit_code == 0 and f"identical {batches}/{batches}" in run.output
    run = CliRunner().invoke(app, ["validate", "schedule", str(good), str(bad)])
    assert run.exit_code == 1 and "DIFFERENT at batch 0: free blocks" in run.output
    run = CliRunner().invoke(app, ["validate", "schedule", str(tmp_path / "none.json")])
    assert run.exit_code == 2


def test_not_a_recording(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ServelabError, match="is not JSON"):
        list(read_recordings(tmp_path / "a.json"))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as f:
        f.write(json.dumps({"engine": {}, "requests": []}) + "\n")
    ((name, recording),) = read_recordings(tmp_path / "b.jsonl.gz")
    with pytest.raises(ServelabError, match="num_blocks"):
        replay(name, recording)
