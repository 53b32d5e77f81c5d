"""Why one request took as long as it did, read from the records of the run.

Phases: ``before`` (stages before the LLM, hops and the gateway), ``front end`` (to the engine core), ``queue`` (to its
first batch), ``prefill`` (to its first token), ``decode`` (to its end), ``after`` (stages after the LLM) and, of the
decode, ``interrupted``: gaps in which it got no token because it was preempted or left out of a batch. Which gaps and
batches were its own is known when all batches were logged (``steps=full``).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.records.metrics import column
from simulator.records.tables import State

PHASES = {
    "before": ("arrival_s", "llm_arrival_s"),
    "front end": ("llm_arrival_s", "engine_s"),
    "queue": ("engine_s", "scheduled_s"),
    "prefill": ("scheduled_s", "llm_first_token_s"),
    "decode": ("llm_first_token_s", "llm_end_s"),
    "after": ("llm_end_s", "end_s"),
}


OUTER = ("before", "after")


@dataclass(frozen=True)
class Explanation:
    """Where the time of request ``request_id`` went.

    phases   phase, start_s, end_s, seconds, share (of its end-to-end latency), median_s and rank (share of all
             requests that took less in this phase)
    ahead    requests on its replica when it came, or that overtook it: request_id, how (running, waiting, overtook),
             arrival_s, end_s, prompt_tokens, generated_tokens
    batches  the batches from its first to its first token; empty unless all batches were logged
    text     the same in sentences
    """

    request_id: int
    phases: pd.DataFrame
    ahead: pd.DataFrame
    batches: pd.DataFrame
    text: str

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {line}" for line in self.text.splitlines())


def explain(
    requests: pd.DataFrame, steps: pd.DataFrame, interruptions: pd.DataFrame, all_steps: bool, request_id: int
) -> Explanation:
    """Explain one request of a run.

    ``all_steps`` says whether ``steps`` holds every batch. Raises ServelabError for a request that is not in the
    records.
    """
    ids = column(requests, "request_id")
    place = np.flatnonzero(ids == request_id)
    if not len(place):
        raise ServelabError(
            f"request {request_id!r} is not in the records, which have {len(ids):,} requests"
            + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
        )
    own = requests.iloc[int(place[0])]
    gaps = interruptions[column(interruptions, "request_id") == request_id]
    phases = _phases(requests, own, gaps)
    ahead = _ahead(requests, own)
    batches = _batches(steps, own) if all_steps else steps.iloc[:0]
    text = "\n".join(_sentences(own, phases, ahead, batches, gaps, all_steps))
    return Explanation(int(request_id), phases, ahead, batches, text)


def _phases(requests: pd.DataFrame, own: pd.Series, gaps: pd.DataFrame) -> pd.DataFrame:
    whole = own["end_s"] - own["arrival_s"]
    rows = []
    for name, (start, end) in PHASES.items():
        start_s, end_s = own[start], own[end] if not np.isnan(own[end]) else own["end_s"]
        if np.isnan(start_s) or np.isnan(end_s):
            continue
        took = column(requests, end) - column(requests, start)
        took = took[~np.isnan(took)]
        seconds = end_s - start_s
        if name in OUTER and not took.any():
            continue  # nothing stands there
        rows.append(
            {
                "phase": name,
                "start_s": start_s,
                "end_s": end_s,
                "seconds": seconds,
                "share": seconds / whole if whole > 0 else 0.0,
                "median_s": float(np.median(took)) if len(took) else np.nan,
                "rank": float(np.mean(took < seconds)) if len(took) else np.nan,
            }
        )
    if len(gaps):
        seconds = float((gaps["to_s"] - gaps["from_s"]).sum())
        rows.append(
            {
                "phase": "interrupted",
                "start_s": gaps["from_s"].min(),
                "end_s": gaps["to_s"].max(),
                "seconds": seconds,
                "share": seconds / whole if whole > 0 else 0.0,
                "median_s": np.nan,
                "rank": np.nan,
            }
        )
    columns = ["phase", "start_s", "end_s", "seconds", "share", "median_s", "rank"]
    return pd.DataFrame(rows, columns=columns)


def _ahead(requests: pd.DataFrame, own: pd.Series) -> pd.DataFrame:
    came = own["engine_s"] if not np.isnan(own["engine_s"]) else own["arrival_s"]
    engine, scheduled = column(requests, "engine_s"), column(requests, "scheduled_s")
    end = np.nan_to_num(column(requests, "end_s"), nan=np.inf)
    ids = column(requests, "request_id")
    here = (column(requests, "replica") == own["replica"]) & (column(requests, "deployment") == own["deployment"])
    here &= ids != own["request_id"]
    before = here & (end > came) & ((engine < came) | ((engine == came) & (ids < own["request_id"])))
    running = before & (scheduled < came)
    served = own["scheduled_s"] if not np.isnan(own["scheduled_s"]) else own["end_s"]
    overtook = here & ~before & (engine >= came) & (scheduled < served)
    how = np.select([running, before, overtook], ["running", "waiting", "overtook"], "")
    rows = np.flatnonzero(how != "")
    columns = ["request_id", "arrival_s", "end_s", "prompt_tokens", "generated_tokens", "priority"]
    found = requests.iloc[rows][columns].reset_index(drop=True)
    found.insert(1, "how", how[rows])
    return found


def _batches(steps: pd.DataFrame, own: pd.Series) -> pd.DataFrame:
    until = own["first_token_s"] if not np.isnan(own["first_token_s"]) else own["end_s"]
    here = (column(steps, "replica") == own["replica"]) & (column(steps, "deployment") == own["deployment"])
    here &= (column(steps, "scheduled_s") >= own["scheduled_s"]) & (column(steps, "end_s") <= until)
    return steps[here].reset_index(drop=True)


def _sentences(
    own: pd.Series,
    phases: pd.DataFrame,
    ahead: pd.DataFrame,
    batches: pd.DataFrame,
    gaps: pd.DataFrame,
    all_steps: bool,
):
    state = State(int(own["state"]))
    who = f"Request {int(own['request_id'])} ({int(own['prompt_tokens']):,} prompt tokens)"
    if own["replica"] < 0 or len(phases) == 0 or state is State.REJECTED:
        yield f"{who} was {state.name.lower().replace('_', ' ')} at {own['arrival_s']:.3f} s, when it arrived."
        return
    whole = own["end_s"] - own["arrival_s"]
    yield (
        f"{who} arrived at {own['arrival_s']:.3f} s and was {state.name.lower().replace('_', ' ')} after "
        f"{_time(whole)} with {int(own['generated_tokens']):,} tokens."
    )
    main = phases[phases["phase"] != "interrupted"]
    most = main.iloc[int(np.argmax(main["seconds"]))]
    yield (
        f"Most of it was {most['phase']}: {_time(most['seconds'])}, {most['share']:.0%} of the whole; "
        f"the median request spends {_time(most['median_s'])} there, and {most['rank']:.1%} of all spend less than "
        "this one."
    )
    for _, p in main.iterrows():
        if p["phase"] != most["phase"]:
            yield f"{p['phase'].capitalize()}: {_time(p['seconds'])} (median {_time(p['median_s'])})."
    counts = ahead["how"].value_counts()
    tokens = int(ahead.loc[ahead["how"] == "waiting", "prompt_tokens"].sum())
    line = (
        f"When it came, {counts.get('running', 0):,} requests ran on its replica and {counts.get('waiting', 0):,} "
        f"waited before it, with {tokens:,} prompt tokens"
    )
    over = counts.get("overtook", 0)
    yield line + (f"; {over:,} that came later were served first." if over else ".")
    if own["cached_tokens"] > 0:
        yield f"{int(own['cached_tokens']):,} of its prompt tokens were found in the prefix cache."
    if len(batches):
        longest = batches.iloc[int(np.argmax(batches["end_s"] - batches["start_s"]))]
        many = f"the {len(batches):,} batches" if len(batches) > 1 else "the batch"
        yield (
            f"From its first chunk to its first token its replica ran {many} of {batches['prefill_tokens'].sum():,} "
            f"prompt tokens in all; the longest had {longest['prefill_tokens']:,.0f} of them beside "
            f"{longest['decode_seqs']:,.0f} decoding requests and took {_time(longest['end_s'] - longest['start_s'])}."
        )
    if own["preemptions"] > 0:
        yield (
            f"It was preempted {int(own['preemptions'])} times: the KV cache was full, and its tokens were "
            "computed again."
        )
    if len(gaps):
        long = gaps.iloc[int(np.argmax(gaps["to_s"] - gaps["from_s"]))]
        yield (
            f"Its tokens were interrupted {len(gaps):,} times, for {_time((gaps['to_s'] - gaps['from_s']).sum())} in "
            f"all; the longest gap began at {long['from_s']:.3f} s and lasted {_time(long['to_s'] - long['from_s'])}."
        )
    elif own["preemptions"] > 0 and not all_steps:
        yield "When it was interrupted is known when all batches are logged (steps=full)."


def _time(seconds: float) -> str:
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if not seconds < 0.1 else f"{seconds * 1e3:.3g} ms"
