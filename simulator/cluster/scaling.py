"""Autoscaling in simulated time: metrics are scraped, get old, and are given to an algorithm now and then."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.autoscaler.base import Autoscaler, PodReading, Reading
from simulator.cluster.pods import Pods
from simulator.cluster.replicas import Replicas


class MetricsConfig(BaseModel):
    """How metrics reach the autoscaler."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scrape_interval_s: float = Field(default=15.0, gt=0, description="between two looks at a pod [s]")
    delay_s: float = Field(default=0.0, ge=0, description="from a look to the autoscaler [s]")


class Scaling:
    """Scrapes the pods of one deployment and has ``autoscaler`` decide how many there should be.

    concurrency     requests in the pod, waiting or running
    queue_depth     those that wait
    kv_use          share of KV blocks held
    request_rate    requests sent to it [request/s] since the last scrape
    token_rate      output tokens [token/s] since then
    duty_cycle      share of time in which its GPU had a kernel running, since then: near 1 at a batch of one, as DCGM
                    shows it, so it says nothing about how much more the pod could do
    """

    def __init__(
        self,
        config: MetricsConfig,
        autoscaler: Autoscaler,
        pods: Pods,
        part: Replicas,
        clock: Any,
        held: Callable[[], int],
    ) -> None:
        self._config, self._autoscaler, self._pods, self._part = config, autoscaler, pods, part
        self._clock, self._held = clock, held
        self._samples: deque[tuple[float, dict[int, dict[str, float]], dict[str, float]]] = deque()
        self._last: tuple[float, np.ndarray] | None = None
        self.sent = np.zeros(len(part), np.int64)

    def start(self) -> None:
        self._scrape(0.0)
        self._clock.at(self._autoscaler.period_s, self._decide, self._autoscaler.period_s)

    def _cumulative(self) -> np.ndarray:
        """Requests, output tokens and busy seconds of each pod since the start."""
        c = self._part.fleet.replica
        width = self._part.width
        tokens, busy = (c[name].view(np.ndarray).reshape(-1, width).sum(axis=1) for name in ("sampled", "busy"))
        return np.stack([self.sent.astype(float), tokens.astype(float), busy])

    def _scrape(self, now: float) -> None:
        waiting, running, _, kv = self._part.signals()
        totals = self._cumulative()
        rates = np.full_like(totals, np.nan)
        if self._last is not None and now > self._last[0]:
            rates = (totals - self._last[1]) / (now - self._last[0])
        self._last = (now, totals)
        columns = dict(
            concurrency=waiting + running,
            queue_depth=waiting,
            kv_use=kv,
            request_rate=rates[0],
            token_rate=rates[1],
            duty_cycle=np.minimum(rates[2], 1.0),
        )
        values = {}
        for life in self._pods.ready():
            found = {name: float(column[life.slot]) for name, column in columns.items()}
            values[life.pod.number] = {k: v for k, v in found.items() if not np.isnan(v)}
        held = self._held()
        whole = {name: float(np.nansum(column)) for name, column in columns.items()}
        whole["concurrency"] += held
        whole["queue_depth"] += held
        self._samples.append((now, values, whole))
        if self._clock.busy():
            later = now + self._config.scrape_interval_s
            self._clock.at(later, self._scrape, later)

    def reading(self, now: float) -> Reading:
        """What the autoscaler may know at ``now`` [s]."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - self._config.delay_s:
            samples.popleft()
        known = bool(samples) and samples[0][0] <= now - self._config.delay_s
        values, totals = (samples[0][1], samples[0][2]) if known else ({}, {})
        pods = tuple(
            PodReading(p.pod.number, p.wanted_s, p.ready_s is not None, p.ready_s, values.get(p.pod.number, {}))
            for p in self._pods.alive()
        )
        return Reading(now, self._pods.wanted, pods, totals)

    def _decide(self, now: float) -> None:
        decision = self._autoscaler.decide(self.reading(now))
        if decision.replicas != self._pods.wanted:
            self._pods.scale(decision.replicas, now, decision.why)
        if self._clock.busy():
            later = now + self._autoscaler.period_s
            self._clock.at(later, self._decide, later)
