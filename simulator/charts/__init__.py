"""Tables -> Altair charts. Everything is aggregated first, by exact quantiles: a million requests never reach a
browser.

A chart computes no figure that a table does not have, and loads nothing from a network.
"""

from simulator.charts.against import measured_simulated, paired_cdf
from simulator.charts.capacity import capacity_curve
from simulator.charts.cost import bill_bars
from simulator.charts.curves import break_even, fan, lines
from simulator.charts.gantt import gantt
from simulator.charts.groups import group_bars
from simulator.charts.heat import heat_map
from simulator.charts.latency import latency_cdf
from simulator.charts.offline import interactive
from simulator.charts.planning import ledger_bars, pareto, tornado
from simulator.charts.theme import enable, save, signed, to_svg
from simulator.charts.timeline import timeline
from simulator.charts.waterfall import over_load, waterfall
from simulator.charts.workload import burstiness, fit_sheet, length_cdf, rate_over_time

__all__ = [
    "bill_bars",
    "break_even",
    "burstiness",
    "capacity_curve",
    "enable",
    "fan",
    "fit_sheet",
    "gantt",
    "group_bars",
    "heat_map",
    "interactive",
    "latency_cdf",
    "ledger_bars",
    "length_cdf",
    "lines",
    "measured_simulated",
    "over_load",
    "paired_cdf",
    "pareto",
    "rate_over_time",
    "save",
    "signed",
    "timeline",
    "to_svg",
    "tornado",
    "waterfall",
]
