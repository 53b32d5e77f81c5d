"""A sweep over two fields as a map."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.theme import GREY, LIMIT, title
from simulator.charts.words import SHARES, axis, named, number, seconds
from simulator.errors import ServelabError, nearest

SCHEME: Any = "cividis"  # light means more; made for the colour blind
WIDE = 30.0  # from this ratio of largest to smallest on, colours are by the logarithm
DARK, BRIGHT = "#000000", "#ffffff"
MOST_CELLS = 600


def cells(table: pd.DataFrame, x: str, y: str, figure: str) -> pd.DataFrame:
    """One row a cell: x, y (text), value (mean over seeds), meets (under all seeds), error, failed, seeds.

    Raises ServelabError for a column that is not there, and where rows of a cell differ in another field of the sweep.
    """
    for column in (x, y, figure):
        if column not in table:
            raise ServelabError(f"heat map: the table has no column {column!r}{nearest(column, list(table.columns))}")
    fields = list(table.columns[: table.columns.get_loc("seed")]) if "seed" in table else [x, y]
    for other in (f for f in fields if f not in (x, y)):
        values = table[other].drop_duplicates().tolist()
        if len(values) > 1:
            raise ServelabError(
                f"heat map over {x!r} and {y!r}: rows also differ in {other!r} ({len(values)} values): "
                f"choose one, such as table[table[{other!r}] == {values[0]!r}]"
            )
    given = table.assign(
        error=table["error"].fillna("").astype(str) if "error" in table else "",
        meets=table["meets"].map(lambda m: pd.isna(m) or bool(m)) if "meets" in table else True,
    )
    rows = (
        given.groupby([x, y], sort=False, dropna=False)
        .agg(value=(figure, "mean"), meets=("meets", "all"), error=("error", "max"), seeds=(figure, "size"))
        .reset_index()
    )
    if len(rows) > MOST_CELLS:
        raise ServelabError(f"heat map: {len(rows):,} cells, at most {MOST_CELLS} can be read")
    return rows.assign(failed=rows["error"].ne("") | rows["value"].isna(), x=rows[x].map(_said), y=rows[y].map(_said))


def _text(row: Any, share: bool) -> str:
    if row.error:
        return "cannot run"
    if np.isnan(row.value):
        return "no figure"
    return f"{row.value:.1%}" if share else number(row.value)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def heat_map(table: pd.DataFrame, x: str, y: str, figure: str, about: str = "") -> Any:
    """A table of `planner.sweep.sweep` over the fields ``x`` and ``y``: the column ``figure`` as colour, its value in
    the cell.

    Figures are means over seeds. A cell that misses its SLO under any of them (column ``meets``) has a frame, one that
    could not be simulated (column ``error``) is grey. Raises ServelabError as `cells` does.
    """
    rows = cells(table, x, y, figure)
    (text, unit), share = named(figure), figure in SHARES
    if unit == "s":
        scale, unit = seconds(float(rows["value"].median()))
        rows["value"] *= scale
    words = f"{text} [{unit}]" if unit else text
    rows["text"] = [_text(r, share) for r in rows.itertuples()]
    values = rows.loc[~rows["failed"], "value"]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    wide = low > 0 and high / low > WIDE
    shade = np.log(rows["value"] / low) / np.log(high / low) if wide else (rows["value"] - low) / ((high - low) or 1.0)
    rows["ink"] = np.where(shade > 0.55, DARK, BRIGHT)  # of the text on the colour, in both looks
    rows["slo"] = np.where(rows["meets"] | rows["failed"], "", "SLO missed")
    bare: dict[str, Any] = {"grid": False, "ticks": False, "domain": False, "labelPadding": 6}
    gap = alt.Scale(paddingInner=0.05, paddingOuter=0.02)
    where = [
        alt.X("x:N", title=axis(x), sort=_order(table[x]), scale=gap, axis=alt.Axis(labelAngle=0, **bare)),
        alt.Y("y:N", title=axis(y), sort=_order(table[y]), scale=gap, axis=alt.Axis(**bare)),
    ]
    tooltip = [
        alt.Tooltip("x:N", title=x),
        alt.Tooltip("y:N", title=y),
        alt.Tooltip("text:N", title=words),
        "slo:N",
        "error:N",
        "seeds:Q",
    ]
    bar = alt.Legend(
        title=words,
        orient="right",
        gradientLength=min(160, 42 * rows["y"].nunique()),
        format="%" if share else ",~r",
        tickCount=4,
    )
    colour = alt.Color(
        "value:Q", legend=bar, scale=alt.Scale(type="log" if wide else "linear", scheme=SCHEME, domain=[low, high])
    )
    plain, failed = rows[~rows["failed"]], rows[rows["failed"]]
    missed = plain[plain["slo"] != ""]
    layers = [alt.Chart(plain).mark_rect().encode(*where, color=colour, tooltip=tooltip)] if len(plain) else []
    if len(failed):
        layers.append(alt.Chart(failed).mark_rect(color=GREY, opacity=0.3).encode(*where, tooltip=tooltip))
        layers.append(alt.Chart(failed).mark_text(fontSize=10, fontStyle="italic").encode(*where, text="text:N"))
    if len(missed):
        frame = alt.Chart(missed).mark_rect(filled=False, stroke=LIMIT, strokeWidth=2.5)
        layers.append(frame.encode(*where))
    for ink in (DARK, BRIGHT):
        layers += _texts(plain[plain["ink"] == ink], where, ink)
    return alt.layer(*layers).properties(
        title=title(f"{text[0].upper()}{text[1:]} by {named(x)[0]} and {named(y)[0]}", about),
        width=alt.Step(76),
        height=alt.Step(44),
    )


def _texts(rows: pd.DataFrame, where: list[Any], ink: str) -> list[Any]:
    """The values of cells, and under those that miss their SLO the words."""
    missed = rows["slo"] != ""
    found = ((rows[~missed], "text", 0, 12), (rows[missed], "text", -7, 12), (rows[missed], "slo", 8, 9))
    return [
        alt.Chart(some).mark_text(dy=down, fontSize=size, color=ink).encode(*where, text=f"{field}:N")
        for some, field, down, size in found
        if len(some)
    ]


def _order(values: pd.Series) -> list[str]:
    """Numbers by size, others as they come."""
    distinct = values.drop_duplicates()
    return [_said(v) for v in (distinct.sort_values() if pd.api.types.is_numeric_dtype(distinct) else distinct)]
