"""The tabs of results: each is drawn when it is opened."""

from typing import Any

import ipywidgets as w

from simulator import charts
from simulator.explorer import cards
from simulator.explorer.views import COMPARED, Html, Item, all_tabs
from simulator.widgets.boxes import full, refill
from simulator.widgets.page import Page


class Outcomes(Page):
    """Part of the explorer."""

    _results: w.Tab
    _tabs: dict[str, Any]
    _drawn: set[int]

    def _show_outcome(self) -> None:
        """Tabs of the last simulation and the last search; each is drawn when it is opened."""
        assert self.outcome is not None
        self._tabs, self._drawn = all_tabs(self.run, self.search, self.pinned), set()
        refill(self._results, [w.VBox(layout=full()) for _ in self._tabs])
        self._results.titles = titles = list(self._tabs)
        self._results.layout.display = ""
        last = self.outcome is self.search
        self._results.selected_index = len(titles) - 1 if last else titles.index(COMPARED) if COMPARED in titles else 0
        self._draw_tab()

    def _draw_tab(self) -> None:
        place = self._results.selected_index
        if place is None or place in self._drawn or place >= len(self._tabs):
            return
        self._drawn.add(place)
        title, draw = list(self._tabs.items())[place]
        made = self._guarded(lambda: [self._shown(item) for item in draw()]) or []
        best = getattr(self.search.found, "best", None) if self.search and title == "Plan" else None
        if best is not None:
            take = lambda: self._history(lambda: self.draft.replace(best.scenario))
            made.append(self._button("take this plan", "check", "make it the draft", take))
        self._results.children[place].children = made

    def _shown(self, item: Item) -> w.Widget:
        if isinstance(item, Html):
            return w.HTML(item.text)
        if item.live:
            return charts.interactive(item.chart, self._dark)
        return w.HTML(cards.picture(charts.to_svg(item.chart, self._dark)))
