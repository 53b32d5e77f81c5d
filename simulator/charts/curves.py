"""Curves over one quantity: several alternatives, where they cross, and an answer with its interval."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.marks import limit_rule, place_rules
from simulator.charts.theme import COLOURS, LIMIT, title
from simulator.charts.words import number, ticks
from simulator.errors import ServelabError

FEW = 12  # values of an axis that each get a tick


def _unit(axis_title: str) -> str:
    """What stands in brackets in the title of an axis."""
    return axis_title.partition("[")[2].partition("]")[0]


def _round(values: Any, log: bool) -> Any:
    """Places of an axis's numbers: given where it is logarithmic, else left to the chart."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & (found > 0)]
    return ticks(found.min(), found.max()) if log and len(found) else alt.Undefined


def lines(
    frame: pd.DataFrame,
    x: str,
    x_title: str,
    y_title: str,
    heading: str,
    crossing: float | None = None,
    log: bool = False,
    about: str = "",
) -> Any:
    """Several lines over one quantity: columns ``x``, ``line``, ``value``; ``crossing`` marks a place on ``x`` with its
    value.

    Titles of axes end in their unit in brackets.
    """
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale()
    axis = lambda values: alt.Axis(format=",~r", values=_round(values, log))
    chart = (
        alt.Chart(frame)
        .mark_line()
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=scale, axis=axis(frame[x])),
            y=alt.Y("value:Q", title=y_title, scale=scale, axis=axis(frame["value"])),
            color=alt.Color("line:N", sort=None),
            strokeDash=alt.StrokeDash("line:N", sort=None),
            tooltip=[
                "line",
                alt.Tooltip(f"{x}:Q", format=",.4g", title=x_title),
                alt.Tooltip("value:Q", format=",.4g", title=y_title),
            ],
        )
    )
    if crossing is not None:
        text = f"{number(crossing)} {_unit(x_title)}".strip()
        ends = (float(frame[x].min()), float(frame[x].max()))
        chart = chart + place_rules(x, {text: crossing}, ends, LIMIT, log)
    return chart.properties(title=title(heading, about))


def crossing_of(frame: pd.DataFrame, x: str) -> float | None:
    """Where the second line of ``frame`` first crosses the first, between given points on a straight line; None
    without it."""
    names = frame["line"].drop_duplicates().tolist()
    if len(names) != 2:
        raise ServelabError(f"break-even: expected two lines, got {len(names)}: {', '.join(map(str, names))}")
    first, second = (frame[frame["line"] == n].drop_duplicates(x).set_index(x)["value"].astype(float) for n in names)
    at = np.union1d(first.index, second.index).astype(float)
    at = at[(at >= max(first.index.min(), second.index.min())) & (at <= min(first.index.max(), second.index.max()))]
    gap = np.interp(at, *_ordered(second)) - np.interp(at, *_ordered(first))
    turns = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0)
    zeros = np.flatnonzero(gap[1:] == 0) + 1
    if len(zeros) and (not len(turns) or zeros[0] <= turns[0]):
        return float(at[zeros[0]])
    if not len(turns):
        return None
    k = turns[0]
    return float(at[k] - gap[k] * (at[k + 1] - at[k]) / (gap[k + 1] - gap[k]))


def _ordered(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    values = values.sort_index()
    return values.index.to_numpy(float), values.to_numpy()


def break_even(
    frame: pd.DataFrame,
    x: str,
    x_title: str,
    y_title: str,
    heading: str = "Break-even",
    crossing: float | None = None,
    log: bool = False,
    about: str = "",
) -> Any:
    """Two alternatives over one quantity, and where they cost the same: columns ``x``, ``line``, ``value``.

    ``crossing`` is worked out from the lines where it is not given; where they do not cross, the title says so. Raises
    ServelabError unless there are two lines.
    """
    found = crossing_of(frame, x)
    found = found if crossing is None else crossing
    words = heading if found is not None else f"{heading}: none in this range"
    return lines(frame, x, x_title, y_title, words, found, log, about)


def fan(
    frame: pd.DataFrame, x: str, x_title: str, y_title: str, heading: str, limit: float | None = None, about: str = ""
) -> Any:
    """An answer with its interval over a quantity: columns ``x``, median, low, high; titles of axes end in their unit
    in brackets.

    The axis of values is logarithmic where they span more than a factor of 5.
    """
    lowest, highest = float(frame["low"].min()), float(frame["high"].max())
    log = lowest > 0 and highest / lowest > 5
    whole = bool((frame[x] == frame[x].round()).all())
    counts = sorted(set(frame[x].tolist()))
    few = whole and len(counts) <= FEW  # ticks where there are values, so that none is rounded to another
    axis = alt.Axis(values=counts, format=",d") if few else alt.Axis(format=",d" if whole else ",~r")
    base = alt.Chart(frame).encode(
        x=alt.X(f"{x}:Q", title=x_title, axis=axis, scale=alt.Scale(zero=False, nice=False, padding=8))
    )
    y = alt.Y(
        "low:Q",
        title=y_title,
        axis=alt.Axis(format=",~r", values=_round(frame[["low", "high"]], log)),
        scale=alt.Scale(
            type="log" if log else "linear",
            zero=alt.Undefined if log else False,
            nice=not log,
            padding=10 if log else 0,
        ),
    )
    tooltip = [
        alt.Tooltip(f"{x}:Q", format=",.4g", title=x_title),
        *(alt.Tooltip(f"{n}:Q", format=",.4g") for n in ("low", "median", "high")),
    ]
    band = base.mark_area(opacity=0.25, color=COLOURS[0]).encode(y=y, y2="high:Q")
    chart = band + base.mark_line(color=COLOURS[0], point={"color": COLOURS[0], "size": 50}).encode(
        y="median:Q", tooltip=tooltip
    )
    if limit is not None:
        chart = chart + limit_rule("limit", limit, f"limit {number(limit)} {_unit(y_title)}".strip())
    return chart.properties(title=title(heading, about))
