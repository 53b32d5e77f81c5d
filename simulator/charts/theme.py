"""One look for all charts, light and dark, and drawn without a network.

Colours are those of Okabe and Ito (2008), told apart by the colour blind. A chart in a notebook is Vega-Lite for the
Vega that JupyterLab carries (it knows version 5, whose language these charts keep to), and a picture for everything
else: nothing is loaded from elsewhere.
"""

from pathlib import Path
from typing import Any

import altair as alt

from simulator.errors import ServelabError

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MORE = ("#AA4499", "#44AA99")  # after Tol, where eight colours are not enough
SERIES = (*COLOURS[:6], COLOURS[7], *MORE, COLOURS[6])  # yellow comes last: it is faint on white
LIMIT = "#D55E00"
GREY = "#8a8f98"  # for what is said aside; legible on white and on black
PALETTE = (*COLOURS, *MORE, GREY)
WIDTH = 560
ENDINGS = (".png", ".svg", ".html", ".json")
EMBED = {
    "actions": {"export": True, "source": False, "compiled": False, "editor": False}
}  # the editor is on the network


def _config(dark: bool) -> dict[str, Any]:
    ink, faint, paper = ("#e6e6e6", "#44484f", "#16181c") if dark else ("#222222", "#e3e5e8", "#ffffff")
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": paper,
        "font": "DejaVu Sans, Segoe UI, Helvetica, Arial, sans-serif",
        "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": 240},
        "axis": {**text, "gridColor": faint, "domainColor": faint, "tickColor": faint, "labelLimit": 260},
        "legend": {
            **text,
            "orient": "top",
            "title": None,
            "labelLimit": 320,
            "symbolStrokeWidth": 3,
            "symbolBaseFillColor": ink,
            "symbolBaseStrokeColor": ink,
        },
        "header": text,
        "title": {
            "color": ink,
            "subtitleColor": ink,
            "anchor": "start",
            "fontSize": 14,
            "subtitleFontSize": 11,
            "offset": 8,
        },
        "range": {"category": list(SERIES)},
        "line": {"strokeWidth": 2},
        "text": {"color": ink, "fontSize": 11},
        "rule": {"color": ink},
        "mark": {"color": COLOURS[0]},
    }


def enable(dark: bool = False) -> None:
    """Use this look in the running notebook, drawn without any network."""
    look: Any = {"config": _config(dark)}
    alt.theme.register("servelab", enable=True)(lambda: look)
    alt.renderers.register("servelab", _drawn)
    alt.renderers.enable("servelab")


def _drawn(found: dict[str, Any], **_: Any) -> dict[str, Any]:
    """What a notebook keeps of a chart."""
    import vl_convert

    return {
        "application/vnd.vegalite.v5+json": {**found, "$schema": "https://vega.github.io/schema/vega-lite/v5.json"},
        "image/svg+xml": vl_convert.vegalite_to_svg(found),
        "text/plain": "chart",
    }


def title(text: str, about: str = "") -> alt.TitleParams:
    """What the chart shows and, under it, what it is about: scenario, seed."""
    return alt.TitleParams(text, subtitle=about) if about else alt.TitleParams(text)


def signed(chart: Any, text: str) -> Any:
    """``chart`` with ``text`` in its lower right corner, such as `Result.stamp`: what it was made from."""
    corner = alt.TitleParams(text, orient="bottom", anchor="end", fontSize=9, fontWeight="normal", offset=6, color=GREY)
    # legends stay with the chart, under its title
    inside: Any = dict.fromkeys(("color", "shape", "strokeDash", "opacity", "size"), "independent")
    return alt.concat(chart).resolve_legend(**inside).properties(title=corner)


def spec(chart: Any, dark: bool = False) -> dict[str, Any]:
    """The chart as Vega-Lite, with this look."""
    with alt.theme.enable("none"):
        out = chart.to_dict()
    return {**out, "config": {**_config(dark), **{k: v for k, v in out.get("config", {}).items() if k != "view"}}}


def to_svg(chart: Any, dark: bool = False) -> str:
    """The chart as a picture in text."""
    import vl_convert

    return vl_convert.vegalite_to_svg(spec(chart, dark))


def save(chart: Any, path: str | Path, dark: bool = False) -> Path:
    """Write a chart as .png, .svg, .html (works without a network) or .json (Vega-Lite).

    Raises ServelabError for another ending.
    """
    import json

    import vl_convert

    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ServelabError(f"{path}: a chart's name must end in {', '.join(ENDINGS)}, got {path.suffix!r}")
    found = spec(chart, dark)
    if path.suffix == ".png":
        path.write_bytes(vl_convert.vegalite_to_png(found, scale=2))
    elif path.suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(found), encoding="utf-8")
    elif path.suffix == ".html":
        page = vl_convert.vegalite_to_html({**found, "usermeta": {"embedOptions": EMBED}}, bundle=True)
        paper = f"<head><style>body {{background: {found['config']['background']}}}</style>"
        path.write_text(page.replace("<head>", paper, 1), encoding="utf-8")
    else:
        path.write_text(json.dumps(found), encoding="utf-8")
    return path
