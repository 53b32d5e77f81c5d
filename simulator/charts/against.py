"""Measured against simulated: figures along the line where they agree, and distributions in pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.latency import quantiles
from simulator.charts.theme import COLOURS, GREY, title
from simulator.charts.words import ticks
from simulator.errors import ServelabError

MOST_POINTS = 3000  # of a panel
LEVELS = np.concatenate([np.linspace(0, 0.95, 39), [0.97, 0.98, 0.99, 0.995, 1.0]])
WHO = ("measured", "simulated")


def measured_simulated(
    table: pd.DataFrame,
    names: tuple[str, str] = WHO,
    band: float = 0.1,
    heading: str = "Simulated against measured",
    about: str = "",
) -> Any:
    """A panel for each metric: what was simulated over what was measured, the line where they agree, and a band of
    ``band`` about it.

    ``table`` has the columns metric, measured, simulated, unit, and may have ``group``, the colour of a point, and
    ``name``, for its tooltip. Axes are logarithmic where values are positive and span more than a factor of 3.
    ``names`` are those of the two axes. At most `MOST_POINTS` points of a metric are drawn, a random choice. Raises
    ServelabError for a table without these columns or without rows.
    """
    for column in ("metric", "measured", "simulated", "unit"):
        if column not in table:
            raise ServelabError(f"measured against simulated: the table has no column {column!r}")
    rows = table.dropna(subset=["measured", "simulated"])
    if not len(rows):
        raise ServelabError(
            f"measured against simulated: none of {len(table)} rows has both a measured and a simulated value"
        )
    metrics = rows["metric"].drop_duplicates().tolist()
    size = 400 if len(metrics) == 1 else 230
    panels = [_panel(rows[rows["metric"] == m], m, names, band, size) for m in metrics]
    words = f"line: the two agree; band: ± {band:.0%}"
    about_and = [about] if about else []
    if len(panels) == 1:
        said = panels[0].title.text  # of the panel
        return panels[0].properties(title=alt.TitleParams(heading, subtitle=[*about_and, f"{said}; {words}"]))
    heads = alt.TitleParams(heading, subtitle=[*about_and, words])
    return alt.concat(*panels, columns=2 if len(panels) in (2, 4) else 3, spacing=28).properties(title=heads)


def _panel(rows: pd.DataFrame, metric: str, names: tuple[str, str], band: float, size: int) -> Any:
    error = np.abs(rows["simulated"] / rows["measured"].where(rows["measured"] != 0) - 1)
    said = f"{metric}: {np.mean(error <= band):.0%} of {len(rows):,} in the band"
    points = rows.sample(MOST_POINTS, random_state=0) if len(rows) > MOST_POINTS else rows
    points = points.assign(error=(points["simulated"] / points["measured"] - 1))
    low, high = float(points[[*WHO]].min().min()), float(points[[*WHO]].max().max())
    log = low > 0 and high / low > 3
    room = 1.08 if log else 1.0
    pad = 0.0 if log else 0.06 * ((high - low) or abs(high) or 1.0)
    ends = np.array([low / room - pad, high * room + pad])
    scale = alt.Scale(
        type="log" if log else "linear", domain=list(ends), nice=False, zero=alt.Undefined if log else False
    )
    unit = rows["unit"].iloc[0]
    unit = f" [{unit}]" if unit else ""
    marks = alt.Axis(format=",~r", values=ticks(*ends) if log else alt.Undefined, tickCount=5)
    x = lambda name: alt.X(f"{name}:Q", title=f"{names[0]}{unit}", scale=scale, axis=marks)
    y = lambda name: alt.Y(f"{name}:Q", title=f"{names[1]}{unit}", scale=scale, axis=marks)
    at = (np.geomspace if log else np.linspace)(float(ends[0]), float(ends[1]), 40)
    width = band * np.abs(at)
    line = pd.DataFrame({"measured": at, "same": at, "low": at - width, "high": at + width})
    base = alt.Chart(line)
    area = base.mark_area(opacity=0.22, color=GREY, clip=True).encode(x=x("measured"), y=y("low"), y2="high:Q")
    same = base.mark_line(strokeDash=[5, 4], strokeWidth=1.4, color=GREY).encode(x=x("measured"), y=y("same"))
    many = len(points) > 300
    dots = alt.Chart(points).mark_point(
        filled=True, size=14 if many else 55, opacity=0.35 if many else 0.9, color=COLOURS[0]
    )
    dots = dots.encode(
        x=x("measured"),
        y=y("simulated"),
        tooltip=[
            *[c for c in ("name", "group") if c in points],
            *(alt.Tooltip(f"{w}:Q", format=".4g", title=f"{n}{unit}") for w, n in zip(WHO, names, strict=True)),
            alt.Tooltip("error:Q", format="+.1%", title="difference"),
        ],
        **({"color": alt.Color("group:N", sort=None)} if "group" in points else {}),
    )
    heads = alt.TitleParams(said, fontSize=12, fontWeight="normal")
    return alt.layer(area, same, dots).properties(width=size, height=size * 0.8, title=heads)


def paired_cdf(groups: Mapping[str, Mapping[str, Sequence[np.ndarray]]], name: str = "TTFT", about: str = "") -> Any:
    """Measured and simulated distributions of a latency, a panel for each group, such as a level of load.

    ``groups`` gives, by name of the panel, the latencies [s] of the runs that were ``measured`` and ``simulated``; runs
    that repeat each other are drawn apart. Each is at most as many points as `LEVELS`. Raises ServelabError without any
    value.
    """
    parts = [
        pd.DataFrame(
            {
                "ms": quantiles(np.asarray(run, float), LEVELS) * 1e3,
                "share": LEVELS,
                "who": who,
                "run": f"{who} {i}",
                "group": group,
            }
        )
        for group, sides in groups.items()
        for who in WHO
        for i, run in enumerate(sides.get(who, ()))
    ]
    data = pd.concat(parts, ignore_index=True).dropna() if parts else pd.DataFrame()
    if not len(data):
        raise ServelabError(f"{name}, measured and simulated: {len(groups)} groups without any latency")
    line = (
        alt.Chart(data)
        .mark_line(opacity=0.75)
        .encode(
            x=alt.X(
                "ms:Q",
                title=f"{name} [ms]",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format=",~r", tickCount=4, labelOverlap=True),
            ),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format="%")),
            color=alt.Color(
                "who:N",
                legend=alt.Legend(orient="right"),
                scale=alt.Scale(domain=list(WHO), range=[COLOURS[0], COLOURS[1]]),
            ),
            detail="run:N",
            strokeDash=alt.StrokeDash("who:N", legend=None),
            tooltip=[
                "run",
                alt.Tooltip("ms:Q", format=",.4g", title=f"{name} [ms]"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        .properties(width=250, height=170)
    )
    return line.facet(
        facet=alt.Facet("group:N", title=None, sort=list(groups)),
        columns=3,
        title=title(f"{name}, measured and simulated", about),
    ).resolve_scale(x="independent")
