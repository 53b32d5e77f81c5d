"""Power of a GPU from what the simulator records, energy from that, and carbon from energy.

While it works a GPU draws ``base + memory * MBU + compute * MFU^(1/3)`` watts, at most its TDP; MBU and MFU are bytes
moved and arithmetic done in the busy time over the peaks. The coefficients are fitted to watts measured on vLLM
(data/power.csv, `calibration.fit.power`); the cube root was chosen among powers from 1/4 to 0.7, which hold out alike.
What it draws without work was not measured by anybody whose data we have: the user gives it.

Carbon as in the GHG Protocol's Scope 2 Guidance (2015): location-based with the grid's average intensity, market-based
after what the provider buys as renewable.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog import find_gpu, load_carbon, load_power
from simulator.cost.rentals import horizon_s
from simulator.errors import ServelabError, nearest
from simulator.records import metrics
from simulator.records.run import RunRecords

J_PER_KWH = 3.6e6
COMPUTE_POWER = 1 / 3  # of model FLOP utilisation


class PowerConfig(BaseModel):
    """``idle_w``: of a GPU without work [W]; the other three replace data/power.csv, for GPUs that are not in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    idle_w: float = Field(ge=0, description="of a GPU without work [W]; nvidia-smi on an idle one shows it")
    base_w: float | None = Field(default=None, ge=0, description="busy, nothing moved or computed [W]")
    memory_w: float | None = Field(default=None, ge=0, description="at full memory bandwidth [W]")
    compute_w: float | None = Field(default=None, ge=0, description="times the cube root of model FLOP utilisation [W]")


@dataclass(frozen=True)
class Power:
    """Coefficients of the module's formula [W], the TDP that caps it and the held-out median error of watts."""

    base_w: float
    memory_w: float
    compute_w: float
    tdp_w: float
    error: float
    source: str


def power_of(gpu: str, config: PowerConfig) -> Power:
    """The model of a GPU, by catalog name. Raises ServelabError for one that is not fitted where ``config`` does not
    give it."""
    given = (config.base_w, config.memory_w, config.compute_w)
    tdp = find_gpu(gpu).tdp_w or float("inf")
    if None not in given:
        return Power(*given, tdp, float("nan"), "your own")  # type: ignore[arg-type]
    row = load_power().get(gpu)
    if row is None:
        raise ServelabError(
            f"no measured power of GPU {gpu!r}{nearest(gpu, load_power())}; there is that of "
            f"{', '.join(load_power())}: give base_w, memory_w and compute_w of your own"
        )
    base, memory, compute = (float(row[k]) for k in ("base_w", "memory_w", "compute_w"))
    return Power(base, memory, compute, tdp, float(row["median_error"]), row["source"])


def busy_w(p: Power, mbu: float | np.ndarray, mfu: float | np.ndarray) -> np.ndarray:
    """Watts of a working GPU.

    >>> float(busy_w(Power(300.0, 100.0, 500.0, 700.0, 0.0, ""), 0.5, 0.008))
    450.0
    >>> float(busy_w(Power(300.0, 100.0, 500.0, 700.0, 0.0, ""), 1.0, 1.0))
    700.0
    """
    computing = np.clip(mfu, 0, 1) ** COMPUTE_POWER
    return np.minimum(p.base_w + p.memory_w * np.clip(mbu, 0, 1) + p.compute_w * computing, p.tdp_w)


def energy(result: RunRecords, config: PowerConfig) -> pd.DataFrame:
    """Energy of the GPUs by deployment: deployment, gpu, busy_w (mean of a GPU at work), kwh_busy, kwh_idle, kwh,
    j_per_token (output).

    GPUs only: hosts, network and cooling are not in it (cooling: PUE). Raises ServelabError for a GPU whose power is
    not known.
    """
    rows = []
    known = result.meta.get("deployments") or []
    i = result.instances
    end = np.nan_to_num(metrics.column(i, "end_s"), nan=horizon_s(result))
    for (d, gpu), part in i.groupby(["deployment", "gpu"], sort=False):
        p = power_of(str(gpu).partition(":")[0], config)
        facts = known[int(str(d))]
        gpus = metrics.column(part, "gpus").astype(float)
        busy = gpus * np.nan_to_num(metrics.column(part, "busy_s"))
        life = gpus * (end[part.index] - metrics.column(part, "start_s"))
        with np.errstate(divide="ignore", invalid="ignore"):
            mbu = np.nan_to_num(metrics.column(part, "bytes") / (busy * facts["peak_bytes_per_s"]))
            mfu = np.nan_to_num(metrics.column(part, "flops") / (busy * facts["peak_flops"]))
        joule = busy_w(p, mbu, mfu) * busy
        idle = config.idle_w * np.clip(life - busy, 0, None)
        q = result.requests[metrics.column(result.requests, "deployment") == int(str(d))]
        tokens = int(metrics.column(q, "generated_tokens")[metrics.completed(q)].sum())
        total = float(joule.sum() + idle.sum())
        rows.append(
            (
                facts["name"],
                gpu,
                float(joule.sum() / busy.sum()) if busy.sum() else np.nan,
                joule.sum() / J_PER_KWH,
                idle.sum() / J_PER_KWH,
                total / J_PER_KWH,
                total / tokens if tokens else np.nan,
            )
        )
    return pd.DataFrame(rows, columns=["deployment", "gpu", "busy_w", "kwh_busy", "kwh_idle", "kwh", "j_per_token"])


@dataclass(frozen=True)
class Grid:
    """PUE of the data centre, grid intensity [gCO2e/kWh] and the share matched by renewable purchases."""

    pue: float
    gco2e_per_kwh: float
    renewable: float
    as_of: str
    source: str


def find_grid(provider: str, region: str) -> Grid:
    """The grid of a provider's region. Raises ServelabError naming those there are.

    >>> find_grid("gcp", "us-east1").gco2e_per_kwh
    412.0
    """
    rows = {(r["provider"], r["region"]): r for r in load_carbon()}
    row = rows.get((provider, region))
    if row is None:
        names = [f"{a} {b}" for a, b in rows]
        raise ServelabError(
            f"no grid figures for {provider} {region}{nearest(f'{provider} {region}', names)}; there are "
            f"{', '.join(names)}; make a Grid of your own"
        )
    return Grid(
        float(row["pue"]),
        float(row["grid_gco2e_per_kwh"]),
        float(row["renewable_match_fraction"]),
        row["as_of"],
        row["source"],
    )


def carbon_kg(kwh: float, grid: Grid) -> tuple[float, float]:
    """Emissions of GPUs that took ``kwh`` [kWh], location-based and market-based [kg CO2e].

    >>> carbon_kg(100.0, Grid(1.2, 400.0, 0.75, "", ""))
    (48.0, 12.0)
    """
    location = kwh * grid.pue * grid.gco2e_per_kwh / 1000
    return location, location * (1 - grid.renewable)
