"""The embedded default workload: chat traffic as Azure saw it in November 2023.

A superposition of applications, told apart by prompt length. Rate and mix move minute by minute; within a
class, prompt and output lengths follow quantile tables joined by a Gaussian copula. The mix has to move: with
the trace's lengths shuffled within its halves, the p99 TTFT of an affine FCFS server offered 70 % of what it
sustains falls by 40 to 90 %, because what overloads a server is a class of long prompts that comes and goes.
Every number stands in ``data/workloads.csv``, written by `fit`.

Source: Azure Public Dataset, AzureLLMInferenceTrace_conv 2023 (CC-BY-4.0); Patel et al., Splitwise, ISCA 2024.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr

from simulator.catalog.files import data_folder
from simulator.core.seeds import named_rng
from simulator.errors import ServelabError
from simulator.workload.arrivals import RateProfile, renewal_arrivals
from simulator.workload.config import AzureConversation

NAME = "azure_conversation"


@dataclass(frozen=True, eq=False)
class ConversationModel:
    """Parameters of the generator.

    cell_s          time between knots of rate and mix [s]
    interval_cv     coefficient of variation of the intervals between requests, on the clock of the rate
    rate            mean rate around each knot [request/s], shape (knots,)
    share           share of each class around each knot, shape (knots, classes)
    levels          levels of the quantile tables, from 0 to 1
    prompt, output  quantiles of each class [token], shape (classes, levels)
    copula          correlation of the Gaussian copula within each class
    """

    cell_s: float
    interval_cv: float
    rate: np.ndarray
    share: np.ndarray
    levels: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    copula: np.ndarray

    @property
    def mean_share(self) -> np.ndarray:
        return np.average(self.share, axis=0, weights=self.rate)

    def classes(self, time_s: np.ndarray | None, u: np.ndarray, cell_s: float) -> np.ndarray:
        """The class of each request: by the mix at its time, or by the mean mix when no times are given."""
        out = np.zeros(len(u), np.int8)
        if time_s is None:
            for bound in np.cumsum(self.mean_share)[:-1]:
                out += u > bound
            return out
        position = time_s / cell_s - 0.5
        left = np.floor(position)
        weight = position - left
        left = left.astype(np.int64) % len(self.rate)
        right = (left + 1) % len(self.rate)
        mass = self.share * self.rate[:, None]  # so that each class's own rate is linear between knots
        mass = np.cumsum(mass, axis=1)
        u = u * (mass[left, -1] * (1 - weight) + mass[right, -1] * weight)
        for k in range(self.share.shape[1] - 1):
            out += u > mass[left, k] * (1 - weight) + mass[right, k] * weight
        return out

    def lengths(self, kind: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prompt and output lengths [token] of requests of these classes from two standard normals each."""
        prompt, output = np.empty(len(kind), np.int32), np.empty(len(kind), np.int32)
        for k, rho in enumerate(self.copula):
            rows = np.flatnonzero(kind == k)
            a = z1[rows]
            b = rho * a + np.sqrt(1 - rho**2) * z2[rows]
            prompt[rows] = np.rint(np.interp(ndtr(a), self.levels, self.prompt[k]))
            output[rows] = np.rint(np.interp(ndtr(b), self.levels, self.output[k]))
        return prompt, output


def conversation_columns(
    config: AzureConversation, seq: np.random.SeedSequence, model: ConversationModel | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrival times [s], prompt and output lengths [token] of the default workload."""
    model = model or embedded_model()
    cell_s = model.cell_s if config.profile_s is None else config.profile_s / len(model.rate)
    shape = model.rate if config.profile == "recorded" else np.ones(len(model.rate))
    if config.duration_s is not None:
        horizon_s = config.duration_s
    else:
        assert config.requests is not None
        horizon_s = config.requests / config.rate_rps
    scale = config.rate_rps * horizon_s / RateProfile(shape, cell_s).integral(horizon_s)
    arrival_s = renewal_arrivals(
        RateProfile(shape * scale, cell_s),
        named_rng(seq, "arrivals"),
        cv=model.interval_cv,
        duration_s=config.duration_s,
        requests=config.requests,
    )
    n = len(arrival_s)
    u = named_rng(seq, "class").random(n)
    kind = model.classes(arrival_s if config.profile == "recorded" else None, u, cell_s)
    z1 = named_rng(seq, "prompt_tokens").standard_normal(n)
    z2 = named_rng(seq, "output_tokens").standard_normal(n)
    return arrival_s, *model.lengths(kind, z1, z2)


def workloads_csv() -> Path:
    """The parameter file, ``data/workloads.csv``."""
    return data_folder() / "workloads.csv"


@lru_cache(maxsize=1)
def embedded_model() -> ConversationModel:
    """The model of ``data/workloads.csv``."""
    rows = pd.read_csv(workloads_csv())
    return model_from_rows(rows[rows["workload"] == NAME])


def model_from_rows(rows: pd.DataFrame) -> ConversationModel:
    """The model of rows (parameter, class, index, value, ...) as `fit.fit_conversation` makes them."""
    by_name = {str(name): group for name, group in rows.groupby("parameter")}

    def values(name: str) -> np.ndarray:
        if name not in by_name:
            raise ServelabError(f"data/workloads.csv has no parameter {name!r} of {NAME!r}")
        return by_name[name].sort_values(["class", "index"])["value"].to_numpy(float)

    classes = len(values("copula"))
    return ConversationModel(
        cell_s=float(values("cell_s")[0]),
        interval_cv=float(values("interval_cv")[0]),
        rate=values("rate"),
        share=values("share").reshape(classes, -1).T,
        levels=values("level"),
        prompt=values("prompt_quantile").reshape(classes, -1),
        output=values("output_quantile").reshape(classes, -1),
        copula=values("copula"),
    )
