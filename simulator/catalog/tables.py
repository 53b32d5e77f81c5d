"""The tables of data/, read once: GPUs, models, aliases, prices, constants."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simulator.catalog.files import data_folder, rows
from simulator.catalog.gpu import GpuSpec
from simulator.catalog.huggingface import read_config
from simulator.catalog.mig import mig_slice
from simulator.catalog.model import ModelSpec
from simulator.errors import ServelabError, nearest

if TYPE_CHECKING:
    import pandas as pd


@lru_cache
def load_gpus() -> Mapping[str, GpuSpec]:
    """GPUs by name."""
    specs = [
        GpuSpec.model_validate({"name" if k == "gpu" else k: v for k, v in row.items()}) for row in rows("gpus.csv")
    ]
    return MappingProxyType({spec.name: spec for spec in specs})


@lru_cache
def load_models() -> Mapping[str, ModelSpec]:
    """Models by canonical name."""
    specs = [
        ModelSpec.model_validate({"name" if k == "model" else k: v for k, v in row.items()})
        for row in rows("models.csv")
    ]
    return MappingProxyType({spec.name: spec for spec in specs})


@lru_cache
def load_prices() -> "pd.DataFrame":
    """Instance prices: provider, instance_type, gpu (a catalog name), gpu_count, region,
    on_demand_usd_per_hour and spot_usd_per_hour (of the whole instance, NaN: not offered), unit, as_of, source.
    """
    import pandas as pd  # 0.4 s that a run without prices need not spend

    return pd.read_csv(data_folder() / "prices.csv")


@lru_cache
def load_billing() -> Mapping[str, tuple[float, float, str, str]]:
    """How providers count time: provider -> granularity [s], least time billed [s], source, as_of."""
    return MappingProxyType(
        {
            row["provider"]: (float(row["granularity_s"]), float(row["minimum_s"]), row["source"], row["as_of"])
            for row in rows("billing.csv")
        }
    )


@lru_cache
def load_commitments() -> tuple[Mapping[str, str], ...]:
    """Discounts for a binding term, as text by column: provider, commitment, term_months, upfront_fraction,
    discount_fraction (of the on-demand price), as_of, source.
    """
    return tuple(rows("commitments.csv"))


@lru_cache
def load_api_prices() -> tuple[Mapping[str, str], ...]:
    """Paid APIs, as text by column: model, input_, output_ and cached_input_usd_per_1m_tokens, as_of, source."""
    return tuple(rows("api_prices.csv"))


@lru_cache
def load_discrepancy() -> Mapping[tuple[str, bool], tuple[float, str]]:
    """How wrong step times are by trust level and whether the model has experts: relative standard deviation,
    source."""
    return MappingProxyType(
        {(r["trust"], r["experts"] == "yes"): (float(r["sd"]), r["source"]) for r in rows("discrepancy.csv")}
    )


@lru_cache
def load_analytic_error() -> tuple[tuple[float, float, float], ...]:
    """How far the analytic model is from simulation: load (share of the highest rate), median relative error of mean
    TPOT and of mean TTFT."""
    return tuple((float(r["load"]), float(r["tpot"]), float(r["ttft"])) for r in rows("analytic_error.csv"))


@lru_cache
def load_carbon() -> tuple[Mapping[str, str], ...]:
    """Grids, as text by column: provider, region, pue, grid_gco2e_per_kwh, renewable_match_fraction, as_of, source."""
    return tuple(rows("carbon.csv"))


@lru_cache
def load_power() -> Mapping[str, Mapping[str, str]]:
    """Power of GPUs by catalog name, as text by column: base_w, memory_w, compute_w [W], median_error, source, date."""
    return MappingProxyType({row["gpu"]: row for row in rows("power.csv")})


@lru_cache
def load_stages() -> tuple[Mapping[str, str], ...]:
    """The stages of an application around an LLM, as text by column: stage, after, workers, mean_s [s], cv, ..."""
    return tuple(rows("stages.csv"))


@lru_cache
def load_serve_flags() -> Mapping[str, Mapping[str, str]]:
    """The flags of ``vllm serve`` by long name: other_names, takes (value, values, perhaps, switch, mark), effect."""
    return MappingProxyType({row["flag"]: MappingProxyType(row) for row in rows("vllm_serve_flags.csv")})


@lru_cache
def constants(table: str) -> Mapping[str, float]:
    """Values of a constants table (columns parameter, value, unit, source, date) by parameter."""
    return MappingProxyType({row["parameter"]: float(row["value"]) for row in rows(f"{table}.csv")})


@lru_cache
def _names(kind: str) -> Mapping[str, tuple[str, str]]:
    """Folded name, alias or name without its owner -> (canonical name, quantization)."""
    table: Mapping[str, Any] = load_gpus() if kind == "gpu" else load_models()
    exact = {name.casefold(): (name, "") for name in table}
    for row in rows("aliases.csv"):
        if row["kind"] == kind:
            exact[row["alias"].casefold()] = (row["name"], row.get("quantization", ""))
    short = {key.rsplit("/", 1)[-1]: value for key, value in exact.items()}
    return MappingProxyType(short | exact)


def _no_such(kind: str, name: str, listing: str) -> ServelabError:
    folded = nearest(name, _names(kind)) or nearest(name.rsplit("/", 1)[-1], _names(kind))
    if folded:
        key = folded.split("'")[1]
        folded = folded.replace(f"'{key}'", repr(_names(kind)[key][0]))
    return ServelabError(f"{kind}: {name!r} is not in the catalog{folded}; `servelab list {listing}` shows all")


def find_gpu(name: str) -> GpuSpec:
    """The GPU of that name or alias, case-insensitive; ``gpu:profile`` is a MIG slice of it.

    >>> find_gpu("H100").name
    'h100_sxm'
    >>> find_gpu("h100:1g.10gb").name
    'h100_sxm:1g.10gb'
    """
    found = _names("gpu").get(name.strip().casefold())
    if found is None:
        whole, colon, profile = name.partition(":")
        if colon:
            return mig_slice(find_gpu(whole), profile)
        raise _no_such("gpu", name, "gpus")
    return load_gpus()[found[0]]


def find_model(name: str | Path) -> ModelSpec:
    """The model of that name, alias, or folder with a ``config.json``; names are case-insensitive.

    >>> find_model("llama-3.1-8b").name
    'meta-llama/Meta-Llama-3.1-8B'
    """
    text = str(name)
    found = _names("model").get(text.strip().casefold())
    if found is not None:
        spec = load_models()[found[0]]
        return spec.model_copy(update={"quantization": found[1]}) if found[1] else spec
    folder = Path(name).expanduser()
    if folder.is_file() and folder.name == "config.json":
        folder = folder.parent
    if folder.is_dir():
        return read_config(folder)
    raise _no_such("model", text, "models")


def in_catalog(kind: str, name: str) -> bool:
    """Whether a ``model`` or ``gpu`` of that name or alias is in the catalog.

    >>> in_catalog("model", "llama-3.1-8b"), in_catalog("model", "/tmp/weights")
    (True, False)
    """
    return name.strip().casefold() in _names(kind)


def hub_id(name: str) -> str | None:
    """The Hugging Face id (org/name) that a model's name stands for; None where the catalog knows none, or several.

    >>> hub_id("llama-3.1-8b"), hub_id("qwen/qwen3-8b"), hub_id("my-own")
    ('meta-llama/Llama-3.1-8B', 'Qwen/Qwen3-8B', None)
    """
    known = [*load_models(), *(row["alias"] for row in rows("aliases.csv") if row["kind"] == "model")]
    folded = name.strip().casefold()
    exact = [k for k in known if k.casefold() == folded]
    found = exact or [k for k in known if k.casefold().rsplit("/", 1)[-1] == folded]
    return found[0] if len(found) == 1 and "/" in found[0] else None
