"""What a result offers, by subject. Each subject is called for its main table; its methods are the rest."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.cost.bill import bill, cost_summary, prices_of
from simulator.cost.energy import PowerConfig, energy
from simulator.cost.ledger import ledger, shares
from simulator.cost.lines import unbilled
from simulator.errors import ServelabError
from simulator.pricing.prices import PricesConfig
from simulator.records import metrics
from simulator.records.run import RunRecords
from simulator.results import objectives
from simulator.results.explain import Explanation, explain
from simulator.results.verdict import RunState, run_state
from simulator.results.waterfall import stage_table, waterfall


@dataclass(frozen=True)
class Latency:
    """How long requests took: called for mean, extremes and percentiles of TTFT, TPOT, ITL, E2EL and queue [s]."""

    _run: RunRecords

    def __call__(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """metric, stat, value, unit; trimmed as `Result.summary`."""
        r = self._run
        window = metrics.measured(r.requests, trim_warmup_s, trim_drain_s)
        return metrics.to_frame([*metrics.latency_rows(r.requests, window), *metrics.itl_rows(r.itl)])

    def percentile(self, name: str, percent: float) -> float:
        """A percentile, 0 to 100, of ``ttft_s``, ``tpot_s``, ``e2el_s`` or ``queue_s`` of the completed requests [s];
        NaN without any.

        Raises ServelabError for another name, with the nearest, and for a percentage outside 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ServelabError(f"percent must lie between 0 and 100, got {percent}")
        values = metrics.latency(self._run.requests, name)[metrics.completed(self._run.requests)]
        values = values[~np.isnan(values)]
        return float(np.percentile(values, percent)) if len(values) else float("nan")

    def by(self, group: str = "traffic_class", window_s: float = 3600.0) -> pd.DataFrame:
        """Attainment and percentiles by class, tenant, deployment or window: see `objectives.breakdown`."""
        return objectives.breakdown(self._run.requests, self._run.meta, group, window_s)

    def limits(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """Each limit of the SLO and all together (row ``all``), judged: see
        :func:`simulator.results.objectives.judged`."""
        r = self._run
        return objectives.judged(r.requests, r.meta, metrics.measured(r.requests, trim_warmup_s, trim_drain_s))

    def waterfall(self, percentile: float = 50.0) -> pd.DataFrame:
        """Where the time of a request at ``percentile`` of E2EL goes: see
        :func:`simulator.results.waterfall.waterfall`."""
        return waterfall(self._run.requests, self._run.stages, self._run.meta, percentile)

    def stages(self) -> pd.DataFrame:
        """Queue, service and use of each stage: see :func:`simulator.results.waterfall.stage_table`."""
        return stage_table(self._run.stages, self._run.meta, metrics.duration_s(self._run.requests))

    def explain(self, request_id: int) -> Explanation:
        """Where the time of one request went, and who was ahead of it: see `simulator.results.explain`."""
        r = self._run
        return explain(r.requests, r.steps, r.interruptions, r.meta.get("steps") == "full", request_id)


@dataclass(frozen=True)
class Throughput:
    """How much was served: called for requests by outcome, throughput, batches, cache hits and use of the GPUs."""

    _run: RunRecords

    def __call__(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """metric, stat, value, unit; trimmed as `Result.summary`, use of the GPUs always of the whole run."""
        r = self._run
        window = metrics.measured(r.requests, trim_warmup_s, trim_drain_s)
        rows = [
            *metrics.count_rows(r.requests, window, r.partial),
            *metrics.throughput_rows(r.requests, window),
            *metrics.utilisation_rows(r.instances, r.meta.get("deployments") or [], metrics.duration_s(r.requests)),
            *metrics.batch_rows(r.timeline, window),
            *metrics.cache_rows(r.requests, window),
        ]
        return metrics.to_frame(rows)

    def counts(self) -> dict[str, int]:
        """Requests arrived and by how they ended."""
        return self._run.counts()

    def state(self) -> RunState:
        """Stable, backlogged or overloaded, and why: see :mod:`simulator.results.verdict`."""
        return run_state(self._run.requests)


@dataclass(frozen=True)
class Cost:
    """What a run costs: called for the bill by hour, month, request and token. Prices are those of the scenario where
    not given; a GPU without a price raises ServelabError."""

    _run: RunRecords

    def __call__(self, prices: PricesConfig | None = None) -> pd.DataFrame:
        """metric, value, unit, source, as_of, staleness_days: see `simulator.cost.bill.cost_summary`."""
        return cost_summary(self._run, prices)

    def bill(self, prices: PricesConfig | None = None) -> pd.DataFrame:
        """A row an item: see `simulator.cost.bill.bill`."""
        return bill(self._run, prices)

    def ledger(self, window_s: float = 3600.0, prices: PricesConfig | None = None) -> pd.DataFrame:
        """What each dollar paid for, by window [s]: see `simulator.cost.ledger.ledger`."""
        return ledger(self._run, prices, window_s=window_s)

    def shares(self, by: str = "tenant", prices: PricesConfig | None = None) -> pd.DataFrame:
        """Who the bill is for: see `simulator.cost.ledger.shares`."""
        return shares(self._run, by, prices)

    def energy(self, power: PowerConfig) -> pd.DataFrame:
        """Energy of the GPUs by deployment: see `simulator.cost.energy.energy`."""
        return energy(self._run, power)

    def unbilled(self, prices: PricesConfig | None = None) -> list[str]:
        """What the run used that no price was given for."""
        return unbilled(self._run, prices_of(self._run, prices))


@dataclass(frozen=True)
class Trust:
    """What the figures rest on: called for a row a deployment."""

    _run: RunRecords

    def __call__(self) -> pd.DataFrame:
        """deployment, model, gpu, step_time, trust (measured, fitted, extrapolated, roofline, user), source."""
        names = ("name", "model", "gpu", "step_time", "trust", "source")
        rows = [[d.get(n) for n in names] for d in self._run.meta.get("deployments") or []]
        return pd.DataFrame(rows, columns=["deployment", *names[1:]])

    @property
    def notes(self) -> list[str]:
        """What must be said of the run beside its figures."""
        return list(self._run.meta.get("notes") or [])

    @property
    def stamp(self) -> str:
        """Hash of the scenario, and the seed."""
        return self._run.stamp
