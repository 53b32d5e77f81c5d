"""A chart as a widget, for JupyterLab and Voila: with this look, and with Vega in it instead of on a CDN."""

from typing import Any

import altair as alt

from simulator.charts.theme import EMBED, _config
from simulator.errors import ServelabError


def interactive(chart: Any, dark: bool = False) -> Any:
    """``chart`` as an `altair.JupyterChart`, whose selections and parameters Python can read; it loads nothing.

    The first call in a process bundles Vega with the widget, once for all. Raises ServelabError without anywidget.
    """
    try:
        import anywidget  # noqa: F401
    except ImportError:
        raise ServelabError("interactive charts need the package anywidget: pip install anywidget") from None
    alt.JupyterChart.enable_offline()
    with alt.theme.enable("none"):
        # the look goes into the chart itself: the widget would put in that of the notebook, which may be another
        return alt.JupyterChart(chart.properties(config=alt.Config.from_dict(_config(dark))), embed_options=EMBED)
