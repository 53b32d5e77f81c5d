"""Runs and searches in the background: their buttons, their progress, what comes of them."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as w

from simulator.explorer import cards
from simulator.explorer.background import Job, Progress
from simulator.explorer.text import mapping_of
from simulator.explorer.work import Outcome
from simulator.planner.designs import Claim
from simulator.scenario import Scenario
from simulator.widgets.page import Page

CHOICES = "replicas: [1, 2, 3, 4, 6, 8]\nmax_num_batched_tokens: [2048, 8192]\n"


class Jobs(Page):
    """Part of the explorer."""

    def simulate(self) -> Job | None:
        """Start a simulation of the draft; None while another job runs, or if the draft is faulty (the page says
        why)."""
        return self._begin(lambda s: self._work.run(s, self.seed))

    def capacity(self) -> Job | None:
        """Start to look for the highest rate within the SLO."""
        return self._begin(lambda s: self._work.capacity(s, self.seed))

    def plan(self, choices: dict[str, list[Any]] | None = None, claim: Claim | None = None) -> Job | None:
        """Start to look for the cheapest of ``choices`` that holds as ``claim`` says; those of the page where not
        given."""

        def work(scenario: Scenario) -> Any:
            wanted = mapping_of(self._choices.value, "choices") if choices is None else choices
            return self._work.plan(scenario, self.seed, wanted, claim or Claim(probability=self._probability.value))

        return self._begin(work)

    def cancel(self) -> None:
        """Stop the running job at its next report."""
        if self.job is not None and self.job.status == "running":
            self.job.cancel()
            self._says.value = "stopping"

    def pin(self) -> None:
        """Keep the last run for comparison."""
        if self.run is not None:
            self._pin_outcome(self.run)

    def _actions(self) -> None:
        self._go = [
            self._button("simulate", "play", "one run, in the background", self.simulate, "success"),
            self._button("capacity", "line-chart", "the highest rate within the SLO", self.capacity),
            self._button("plan", "search", "the cheapest of the choices below that holds the SLO", self.plan),
        ]
        self._stop = self._button("cancel", "stop", "what is reached is kept", self.cancel, "warning")
        self._pin = self._button("pin", "thumb-tack", "keep the last run as A, to compare the next ones with", self.pin)
        self._bar_done = w.FloatProgress(0, min=0, max=1, layout=w.Layout(width="220px", display="none"))
        self._says = w.HTML()
        self._choices = w.Textarea(CHOICES, layout=w.Layout(width="420px", height="64px"))
        self._probability = w.BoundedFloatText(
            0.9,
            min=0.5,
            max=0.99,
            step=0.05,
            description="holds in a share of",
            style={"description_width": "120px"},
            layout=w.Layout(width="220px"),
        )
        asked = w.Accordion(
            [w.VBox([self._choices, self._probability])],
            titles=("choices of a plan: fields and values",),
            layout=w.Layout(width="460px"),
        )
        self._run_bar = w.VBox(
            [
                w.HBox([*self._go, self._stop, self._pin], layout=w.Layout(flex_flow="row wrap")),
                w.HBox([self._bar_done, self._says], layout=w.Layout(align_items="center")),
                asked,
            ]
        )
        self._idle(True)

    def _idle(self, idle: bool) -> None:
        for b in self._go:
            b.disabled = not idle
        self._stop.disabled = idle
        self._pin.disabled = self.run is None
        self._stop.button_style = "" if idle else "warning"
        self._bar_done.layout.display = "none" if idle else ""

    def _begin(self, work: Callable[[Scenario], Any]) -> Job | None:
        made = self._guarded(lambda: work(self.scenario))
        return self._start(made) if made is not None else None

    def _start(self, work: Any, then: Callable[[Outcome], None] | None = None) -> Job | None:
        if self.job is not None and self.job.status == "running":
            return None
        self._fault.value = ""
        self._bar_done.value, self._bar_done.bar_style = 0.0, "info"
        self._says.value = "starting"
        self.job = Job(work, self._told, lambda job: self._ended(job, then))
        self._idle(False)
        return self.job.start()

    def _told(self, p: Progress) -> None:
        if p.fraction is not None:
            self._bar_done.value = p.fraction
        left = "" if p.remaining_s is None else f", {cards.duration(p.remaining_s)} to go"
        self._says.value = f'<span class="sl-note">{escape(p.text)} ({cards.duration(p.elapsed_s)}{left})</span>'

    def _ended(self, job: Job, then: Callable[[Outcome], None] | None) -> None:
        self._says.value = f'<span class="sl-note">{job.status}</span>'
        try:
            if then is not None and job.status == "cancelled":
                self._says.value = '<span class="sl-note">cancelled: nothing is pinned</span>'
            elif isinstance(job.result, Outcome):
                if job.result.cached:
                    self._says.value = '<span class="sl-note">found again: computed before</span>'
                self._guarded(lambda: (then or self._take_outcome)(job.result))
            elif job.status == "failed":
                self._fault.value = cards.say(job.problem, cards.BAD)
        finally:
            self._idle(True)

    def _take_outcome(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if outcome.kind == "run":
            self.run = outcome
        else:
            self.search = outcome
        self._show_outcome()

    def _pin_outcome(self, outcome: Outcome | None) -> None:
        if outcome is None and self.pinned is None:
            return
        self.pinned = outcome
        if outcome is not None:
            self._says.value = f'<span class="sl-note">pinned as A: {outcome.stamp}</span>'
        self._changed()
        if self.outcome is not None:
            self._show_outcome()
