"""Pictures of a calibration: batches against the fit, and measured against simulated load tests."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from calibration.fit.design import Fit
from calibration.judge.compare_runs import group_of, values
from calibration.measure.measured import MeasuredRun
from simulator.charts.against import MOST_POINTS, WHO, measured_simulated, paired_cdf
from simulator.charts.theme import COLOURS, GREY, title


def _kind(frame: pd.DataFrame) -> np.ndarray:
    prefill, decode = frame["prefill_tokens"] > 0, frame["decode_seqs"] > 0
    return np.where(prefill & decode, "both", np.where(prefill, "prefill only", "decode only"))


def _predicted(frame: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    out = frame.sample(min(len(frame), MOST_POINTS), random_state=0) if len(frame) > MOST_POINTS else frame
    predicted = fit.design.columns(out) @ fit.coefficients + getattr(fit.config, "host_s", 0.0)
    return pd.DataFrame(
        {
            "measured": out["seconds"].to_numpy() * 1e3,
            "predicted": predicted * 1e3,
            "kind": _kind(out),
            "tokens": (out["prefill_tokens"] + out["decode_seqs"]).to_numpy(),
            "error": (predicted / out["seconds"].to_numpy() - 1) * 100,
        }
    )


def batch_scatter(frame: pd.DataFrame, fit: Fit, about: str = "") -> Any:
    """Predicted against measured time of each batch [ms], by kind of batch, with the line where they agree."""
    points = _predicted(frame, fit).rename(columns={"predicted": "simulated", "kind": "group"})
    return measured_simulated(
        points.assign(metric="batches", unit="ms"),
        ("measured", "fitted"),
        heading="Time of a batch, fitted against measured",
        about=about,
    )


def residuals(frame: pd.DataFrame, fit: Fit, about: str = "") -> Any:
    """Relative residual of each batch by its tokens, and the median of batches of that size."""
    points = _predicted(frame, fit)
    points["size"] = 2.0 ** np.floor(np.log2(points["tokens"].clip(lower=1)))
    band = points.groupby("size")["error"].quantile(np.array([0.1, 0.5, 0.9])).unstack().reset_index()
    band.columns = ["size", "low", "middle", "high"]
    x = alt.X("size:Q", title="tokens of the batch [token]", scale=alt.Scale(type="log", base=2))
    limit = float(np.clip(np.abs(points["error"]).quantile(0.99), 10, 200))
    y = alt.Scale(domain=[-limit, limit], clamp=True)
    dots = (
        alt.Chart(points)
        .mark_point(size=10, opacity=0.2, filled=True)
        .encode(
            x=alt.X("tokens:Q", title="tokens of the batch [token]", scale=alt.Scale(type="log", base=2)),
            y=alt.Y("error:Q", title="fitted / measured - 1 [%]", scale=y),
            color=alt.Color("kind:N", title=None),
        )
    )
    area = (
        alt.Chart(band)
        .mark_errorband(opacity=0.25, color=GREY)
        .encode(x=x, y=alt.Y("low:Q", scale=y, title="fitted / measured - 1 [%]"), y2="high:Q")
    )
    line = (
        alt.Chart(band)
        .mark_line(color=COLOURS[3], point={"color": COLOURS[3]})
        .encode(x=x, y=alt.Y("middle:Q", scale=y, title="fitted / measured - 1 [%]"))
    )
    return (dots + area + line).properties(
        width=420, height=240, title=title("Residuals: median and the middle 80 %", about)
    )


def cdf_by_level(pairs: list[tuple[MeasuredRun, MeasuredRun]], metric: str, name: str) -> Any:
    """Measured and simulated distributions of one latency, a panel for each load level; repeats drawn apart."""
    groups: dict[str, dict[str, list[np.ndarray]]] = {}
    for pair in pairs:
        for who, run in zip(WHO, pair, strict=True):
            groups.setdefault(group_of(run.name), {}).setdefault(who, []).append(values(run, metric))
    return paired_cdf(groups, name)


def error_bars(table: pd.DataFrame) -> Any:
    """Error of each mean by load level, with the noise floor of the measurement as a grey band."""
    data = table[(table["phase"] == "all") & table["statistic"].isin(["mean", "value"])].copy()
    names = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2el_s": "end to end", "requests_per_s": "throughput"}
    data = data[data["metric"].isin(names)]
    data["metric"] = data["metric"].map(names)
    data["percent"], data["floor"] = data["error"] * 100, data["noise_floor"].fillna(0) * 100
    data["low"] = -data["floor"]
    top = max(10.0, float(data["percent"].abs().max()) * 1.15)
    scale = alt.Scale(domain=[-top, top], clamp=True)
    base = alt.Chart().encode(y=alt.Y("level:N", title=None))
    floor = base.mark_bar(color=GREY, opacity=0.5, height=12).encode(
        x=alt.X("low:Q", scale=scale, title="simulated / measured - 1 [%]"), x2="floor:Q"
    )
    dot = base.mark_point(filled=True, size=60, color=COLOURS[0]).encode(x=alt.X("percent:Q", scale=scale))
    return (
        alt.layer(floor, dot, data=data)
        .properties(width=250, height=alt.Step(18))
        .facet(
            facet=alt.Facet("metric:N", title=None, sort=list(names.values())),
            columns=2,
            title=title("Errors of means; grey: what repeats of the measurement differ (95 %)"),
        )
    )
