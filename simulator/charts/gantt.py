"""Batches of one replica, one by one."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.theme import COLOURS, title
from simulator.charts.words import seconds
from simulator.errors import ServelabError

MOST = 400  # bars; more are thinner than a pixel
USUAL = 120  # bars where no window is given: single batches can still be told apart
KINDS = ("prefill only", "mixed", "decode only")
KIND_COLOURS = (COLOURS[1], COLOURS[3], COLOURS[0])
TOKENS = ("prefill tokens", "decode tokens")
REQUESTS = ("running", "waiting")


def kind_of(steps: pd.DataFrame) -> np.ndarray:
    """Kind of each batch: one of `KINDS`, by whether sequences in it prefill and decode."""
    prefill, decode = steps["prefill_tokens"].to_numpy() > 0, steps["decode_seqs"].to_numpy() > 0
    return np.where(prefill & decode, KINDS[1], np.where(prefill, KINDS[0], KINDS[2]))


def batches(
    steps: pd.DataFrame, deployment: int = 0, replica: int = 0, window_s: tuple[float, float] | None = None
) -> tuple[pd.DataFrame, str]:
    """The batches that `gantt` shows, in order, and which they are, in words.

    Raises ServelabError without logged batches, for a replica that has none, and for a window without any.
    """
    if not len(steps):
        raise ServelabError('no batches were logged: steps are kept by simulate(..., steps="full")')
    mine = steps[(steps["deployment"] == deployment) & (steps["replica"] == replica)].sort_values("start_s")
    if not len(mine):
        known = steps[["deployment", "replica"]].drop_duplicates().to_numpy().tolist()
        some = ", ".join(f"({d}, {r})" for d, r in known[:8]) + (", ..." if len(known) > 8 else "")
        raise ServelabError(
            f"no batches of deployment {deployment}, replica {replica}: steps have (deployment, replica) {some}"
        )
    if window_s is None:
        peak = int((mine["waiting"] + mine["running"]).to_numpy().argmax())
        first = max(0, min(peak - USUAL // 2, len(mine) - USUAL))
        found, why = mine.iloc[first : first + USUAL], ", where it has most requests"
    else:
        found = mine[(mine["end_s"] > window_s[0]) & (mine["start_s"] < window_s[1])]
        why = ""
        if not len(found):
            raise ServelabError(
                f"window_s: replica {replica} has no batches from {window_s[0]:g} s to {window_s[1]:g} s, "
                f"but from {mine['start_s'].min():g} s to {mine['end_s'].max():g} s"
            )
        if len(found) > MOST:
            why = f", the first of {len(found):,} in the window"
            found = found.iloc[:MOST]
    if len(found) == len(mine):
        why = ""
    logged = "" if (np.diff(mine["step"]) == 1).all() else " logged (some are left out)"
    return found, f"replica {replica}: {len(found):,} of {len(mine):,} batches{logged}{why}"


def gantt(
    steps: pd.DataFrame,
    deployment: int = 0,
    replica: int = 0,
    window_s: tuple[float, float] | None = None,
    about: str = "",
) -> Any:
    """Batches of one replica over time by kind; under them their tokens, and the requests running and waiting.

    ``steps`` is the table of the records, of a run with ``steps="full"`` (or ``"sampled"``: then there are gaps between
    the bars). ``window_s`` is a start and an end [s]; without it the `USUAL` batches about the fullest moment are
    shown. At most `MOST` bars are drawn, and the title says which. Raises ServelabError as `batches` does.
    """
    found, words = batches(steps, deployment, replica, window_s)
    scale, unit = seconds(float((found["end_s"] - found["start_s"]).max()))
    rows = pd.DataFrame(
        {
            "from": found["start_s"],
            "to": found["end_s"],
            "took": (found["end_s"] - found["start_s"]) * scale,
            "kind": kind_of(found),
            "batch": found["step"],
            TOKENS[0]: found["prefill_tokens"],
            TOKENS[1]: found["decode_seqs"],
            REQUESTS[0]: found["running"],
            REQUESTS[1]: found["waiting"],
        }
    )
    ends = [float(rows["from"].min()), float(rows["to"].max())]
    time = alt.Scale(domain=ends, nice=False, zero=False)
    hidden = alt.X("from:Q", title=None, scale=time, axis=alt.Axis(labels=False, ticks=False))
    tooltip = [
        "batch",
        "kind",
        alt.Tooltip("from:Q", format=",.4f", title="start [s]"),
        alt.Tooltip("took:Q", format=".3g", title=f"took [{unit}]"),
        *(alt.Tooltip(f"{n}:Q", format=",d") for n in (*TOKENS, *REQUESTS)),
    ]
    used = [k for k in KINDS if k in set(rows["kind"])]
    bars = (
        alt.Chart(rows)
        .mark_bar(height=16)
        .encode(
            x=hidden,
            x2="to:Q",
            y=alt.Y("kind:N", title=None, sort=list(KINDS)),
            color=alt.Color(
                "kind:N", legend=None, scale=alt.Scale(domain=used, range=[KIND_COLOURS[KINDS.index(k)] for k in used])
            ),
            tooltip=tooltip,
        )
        .properties(height=alt.Step(24))
    )
    tokens = _long(rows, TOKENS)
    tokens["base"] = np.where(tokens["what"] == TOKENS[1], np.tile(rows[TOKENS[0]], 2), 0)
    tokens["top"] = tokens["base"] + tokens["value"]
    stacks = (
        alt.Chart(tokens[tokens["value"] > 0])
        .mark_rect()
        .encode(
            x=hidden,
            x2="to:Q",
            y=alt.Y("base:Q", title="batch [token]", axis=alt.Axis(tickCount=4, format=",d")),
            y2="top:Q",
            color=_colour(TOKENS, (COLOURS[1], COLOURS[0])),
            tooltip=["batch", "what", alt.Tooltip("value:Q", format=",d")],
        )
        .properties(height=110)
    )
    lines = (
        alt.Chart(_long(rows, REQUESTS))
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=alt.X("from:Q", title="time [s]", scale=time),
            y=alt.Y("value:Q", title="requests", axis=alt.Axis(tickCount=4, format=",d")),
            color=_colour(REQUESTS, (COLOURS[2], COLOURS[5])),
        )
        .properties(height=80)
    )
    return (
        alt.vconcat(bars, stacks, lines, spacing=8)
        .resolve_scale(color="independent")
        .properties(title=title(f"Batches of {words}", about))
    )


def _long(rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    return rows.melt(["from", "to", "batch"], list(names), "what", "value")


def _colour(names: tuple[str, ...], colours: tuple[str, ...]) -> alt.Color:
    return alt.Color(
        "what:N", scale=alt.Scale(domain=list(names), range=list(colours)), legend=alt.Legend(orient="right")
    )
