"""One HTML file about a run, for people who were not there.

What it says is taken from results and charts; no figure is made here.
"""

from simulator.report.html import write_report

__all__ = ["write_report"]
