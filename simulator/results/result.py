"""Result: the records of one simulation and what is asked of them."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import UnknownName, nearest
from simulator.records import metrics
from simulator.records.metrics import Window
from simulator.records.run import RunRecords
from simulator.results import objectives
from simulator.results.explain import Explanation
from simulator.results.subjects import Cost, Latency, Throughput, Trust
from simulator.results.verdict import RunState


class Result(RunRecords):
    """Records of one simulation, and what is asked of them, by subject: `latency`, `throughput`, `cost`, `trust`.

    Each subject is called for its main table and has methods for the rest. The tables are attributes: requests, steps,
    interruptions, timeline, instances, events, stages, starts, nodes, itl; see :mod:`simulator.records.tables`.
    ``meta`` is plain JSON: scenario, seed, version, deployments (each: name, model, gpu, gpus_per_replica, step_time,
    trust, source, and of one GPU peak_flops [FLOP/s] and peak_bytes_per_s [B/s]), notes, partial, method, slo, prices.
    """

    def __getattr__(self, name: str) -> Any:
        """Only for names that do not exist: the nearest one is named."""
        known = [n for n in dir(type(self)) if not n.startswith("_")] + list(type(self).__dataclass_fields__)
        raise AttributeError(f"a result has no {name!r}{nearest(name, known) if not name.startswith('_') else ''}")

    # ---- by subject -------------------------------------------------------------------------------------------

    @property
    def latency(self) -> Latency:
        """How long requests took, and where the time went."""
        return Latency(self)

    @property
    def throughput(self) -> Throughput:
        """How much was served, and how busy the GPUs were."""
        return Throughput(self)

    @property
    def cost(self) -> Cost:
        """What it costs."""
        return Cost(self)

    @property
    def trust(self) -> Trust:
        """What the figures rest on."""
        return Trust(self)

    # ---- the run as a whole -----------------------------------------------------------------------------------

    def breakdown(self, by: str = "traffic_class", window_s: float = 3600.0) -> pd.DataFrame:
        """Attainment and percentiles by class, tenant, deployment or window: see `objectives.breakdown`."""
        return self.latency.by(by, window_s)

    def explain(self, request_id: int) -> Explanation:
        """Where the time of one request went, and who was ahead of it: see `simulator.results.explain`."""
        return self.latency.explain(request_id)

    def waterfall(self, percentile: float = 50.0) -> pd.DataFrame:
        """Where the time of a request at ``percentile`` of E2EL goes: see
        :func:`simulator.results.waterfall.waterfall`."""
        return self.latency.waterfall(percentile)

    def stage_table(self) -> pd.DataFrame:
        """Queue, service and use of each stage: see :func:`simulator.results.waterfall.stage_table`."""
        return self.latency.stages()

    def summary(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """Everything asked of a run, long: metric, stat, value, unit. Definitions: :mod:`simulator.records.metrics`.

        Trimming leaves out the first ``trim_warmup_s`` and the last ``trim_drain_s`` [s] of the run:
        latencies, counts and attainment are then of the requests that arrived in between, throughput and
        goodput of those that ended in between. The ITL histogram and the utilisation are of the whole run.
        """
        window = metrics.measured(self.requests, trim_warmup_s, trim_drain_s)
        rows = [
            *metrics.count_rows(self.requests, window, self.partial),
            *metrics.latency_rows(self.requests, window),
            *metrics.itl_rows(self.itl),
            *metrics.throughput_rows(self.requests, window),
            *self._slo_rows(window),
            *metrics.utilisation_rows(
                self.instances, self.meta.get("deployments") or [], metrics.duration_s(self.requests)
            ),
            *metrics.batch_rows(self.timeline, window),
            *metrics.cache_rows(self.requests, window),
        ]
        return metrics.to_frame(rows)

    def _slo_rows(self, window: Window) -> list[metrics.Row]:
        total = objectives.judged(self.requests, self.meta, window).iloc[-1]
        good = int(np.count_nonzero(self.good() & window.holds(metrics.column(self.requests, "end_s"))))
        goodput = good / window.length_s if window.length_s > 0 else float("nan")
        return [
            ("request_goodput", "mean", goodput, "request/s"),
            ("attainment", "mean", float(total["attainment"]), "ratio"),
            ("attainment", "worst_window", float(total["worst_window"]), "ratio"),
        ]

    def metric(self, name: str, stat: str = "mean") -> float:
        """One figure of `summary`, such as ``metric("ttft_s", "p99")``.

        Raises ServelabError for a metric or a statistic that it does not have, with the nearest.
        """
        rows = self.summary()
        mine = rows[rows["metric"] == name]
        if mine.empty:
            raise UnknownName(f"a result has no metric {name!r}{nearest(name, rows['metric'].unique())}")
        found = mine[mine["stat"] == stat]
        if found.empty:
            has = f"it has {', '.join(mine['stat'])}"
            raise UnknownName(f"metric {name!r} has no statistic {stat!r}{nearest(stat, mine['stat'])}; {has}")
        return float(found["value"].iloc[0])

    def slo(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """Each limit and all together (row ``all``) judged: see :func:`simulator.results.objectives.judged`."""
        return self.latency.limits(trim_warmup_s, trim_drain_s)

    def state(self) -> RunState:
        """Stable, backlogged or overloaded, and why: see :mod:`simulator.results.verdict`."""
        return self.throughput.state()

    def verdict(self) -> str:
        """One sentence: ``meets SLO: yes|no, because ...``."""
        return objectives.verdict(self.requests, self.meta, self.slo(), self.state(), self.partial)
