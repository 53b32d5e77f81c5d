"""Tables -> Altair charts. Everything is aggregated first, by exact quantiles: a million requests never reach a browser."""

from simulator.charts.cost import bill_bars
from simulator.charts.groups import group_bars
from simulator.charts.latency import latency_cdf
from simulator.charts.planning import capacity_curve, fan, ledger_bars, lines, pareto, tornado
from simulator.charts.theme import enable, save, signed, to_svg
from simulator.charts.timeline import timeline
from simulator.charts.waterfall import over_load, waterfall
from simulator.charts.workload import burstiness, fit_sheet, length_cdf, rate_over_time

__all__ = [
    "bill_bars",
    "burstiness",
    "capacity_curve",
    "enable",
    "fan",
    "fit_sheet",
    "group_bars",
    "latency_cdf",
    "ledger_bars",
    "length_cdf",
    "lines",
    "over_load",
    "pareto",
    "rate_over_time",
    "save",
    "signed",
    "timeline",
    "to_svg",
    "tornado",
    "waterfall",
]
