"""The scheduling pass as docs/exactness.md has it in plain Python decides what the engine decides."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from calibration.judge.schedules import replay
from calibration.oracle.cases import make_case
from calibration.oracle.drive import Batch, Drive, StuckError
from calibration.oracle.token_streams import TokenStreams

PAGE = Path(__file__).parents[1] / "docs" / "exactness.md"
SOURCE = re.search(r"```python\n(class Pass:.*?)```", PAGE.read_text(), re.DOTALL).group(1)


def made(source=SOURCE):
    names = {}
    exec(source, names)  # noqa: S102 (our own page)
    return names["Pass"]


class Plain:
    """The page's pass as `Drive` asks for a scheduler."""

    version = "0.32.0"

    def __init__(self, case, passes):
        e = case.engine
        blocks = e["num_gpu_blocks_override"]
        self.case = case
        self.names = {}
        self.plain = passes(
            e["max_num_batched_tokens"],
            e.get("max_num_active_seqs") or e["max_num_seqs"],
            blocks,
            e["block_size"],
            cap=e["long_prefill_token_threshold"],
            adaptive=e.get("long_prefill_token_threshold_adaptive", False),
            chunked=e["enable_chunked_prefill"],
            by_priority=e["scheduling_policy"] == "priority",
            reserve=e.get("scheduler_reserve_full_isl", True),
            watermark=int(e.get("watermark", 0.0) * blocks),
        )

    def add(self, row):
        q = self.case.requests[row]
        r = Request(
            id=q["id"], order=row, priority=q.get("priority", 0), prompt=q["prompt_tokens"], length=q["output_tokens"]
        )
        self.names[q["id"]] = r
        self.plain.waiting.append(r)

    def busy(self):
        return bool(self.plain.running or self.plain.waiting)

    def states(self):
        return {r.id: "" for r in (*self.plain.running, *self.plain.waiting)}

    def outputs(self, name):
        return self.names[name].out if name in self.states() else None

    def schedule(self):
        tokens, preempted = self.plain.schedule()
        before = {r.id: r.computed - n for r, n in tokens.items()}
        names = {r.id: n for r, n in tokens.items()}
        return Batch(names, before, sorted(r.id for r in preempted), self.plain.free, tokens)

    def update(self, batch, sampled):
        self.plain.update(batch.handle)


class Request(SimpleNamespace):
    def __init__(self, **fields):
        super().__init__(out=0, computed=0, blocks=0, **fields)

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other


def recorded(profile, seed, passes):
    case = make_case(profile, seed)
    engine = case.engine | {"async_scheduling": False, "enable_prefix_caching": False}
    case = dataclasses.replace(case, engine=engine, abort_rate=0.0)
    return Drive(case, TokenStreams(case.requests), Plain(case, passes)).record()


def differences(passes, seeds, most=10):
    """Cases that differ, until there are ``most``, and the preemptions of all that were run."""
    found, preemptions = [], 0
    for profile in ("wide", "narrow"):
        for seed in seeds:
            if len(found) == most:
                break
            try:
                recording = recorded(profile, seed, passes)
            except StuckError as stuck:
                found.append(str(stuck))
                continue
            result = replay(f"{profile} {seed}", recording)
            preemptions += result.counts["preemptions"]
            if not result.identical:
                found.append(f"{result.name}: {result.difference}")
    return found, preemptions


def test_the_pages_pass_decides_what_the_engine_decides():
    found, preemptions = differences(made(), range(100))
    assert found == []
    assert preemptions > 100


@pytest.mark.parametrize(
    "rule",
    [
        ("self.waiting.insert(0, r)", "self.waiting.append(r)"),
        ("while not preempted and self", "while self"),
        ('cap = f["cap"] if eligible > 1 else 0', 'cap = f["cap"]'),
        ("left += tokens.pop(v, 0)", "tokens.pop(v, 0)"),
        ("blocks - 1", "blocks"),
        ('(f["watermark"] if self.running else 0)', 'f["watermark"]'),
        ('known if f["reserve"] else n) > room', "n) > room"),
    ],
    ids=lambda rule: rule[0][:30],
)
def test_each_rule_matters(rule):
    assert rule[0] in SOURCE
    assert differences(made(SOURCE.replace(*rule)), range(150), most=1)[0]


def test_the_pass_is_short():
    assert len([line for line in SOURCE.splitlines() if line.strip()]) <= 65
