"""Lines that say where a limit or a special place is, with its value."""

from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import LIMIT

DASH = [5, 4]


def limit_rule(field: str, value: float, text: str, left: bool = False) -> Any:
    """A level of the y axis, in the colour of limits, with what it is at one end; ``field`` is that of the axis."""
    base = alt.Chart(pd.DataFrame({field: [value], "text": [text]})).encode(y=f"{field}:Q")
    rule = base.mark_rule(color=LIMIT, strokeDash=DASH, strokeWidth=1.5)
    words = base.mark_text(
        color=LIMIT, align="left" if left else "right", baseline="bottom", dx=4 if left else -4, dy=-3
    )
    return rule + words.encode(x=alt.value(0 if left else "width"), text="text:N")


def place_rules(
    field: str, places: dict[str, float], ends: tuple[float, float], color: str | None = None, log: bool = False
) -> Any:
    """Places on the x axis by what they are, each with a dashed line and its text, one under the other.

    ``ends`` are those of the axis: text stands where there is room for it.
    """
    middle = (ends[0] * ends[1]) ** 0.5 if log else (ends[0] + ends[1]) / 2
    left = sum(places.values()) / max(len(places), 1) > middle  # of the line stands the text
    colour: dict[str, Any] = {} if color is None else {"color": color}
    layers = []
    # a line begins under the texts of those that stand across it
    for row, (text, value) in enumerate(sorted(places.items(), key=lambda p: p[1], reverse=left)):
        base = alt.Chart(pd.DataFrame({field: [value], "text": [text]})).encode(
            x=f"{field}:Q", y=alt.value(2 + 15 * row)
        )
        words = base.mark_text(align="right" if left else "left", dx=-5 if left else 5, dy=2, baseline="top", **colour)
        rule = base.mark_rule(strokeDash=DASH, strokeWidth=1.5, **colour).encode(y2=alt.value("height"))
        layers += [rule, words.encode(text="text:N")]
    return alt.layer(*layers)
