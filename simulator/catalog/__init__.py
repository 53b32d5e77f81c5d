"""Data to specs: GPUs, models and profiles by name, with aliases and a did-you-mean on a wrong one.

Facts with their sources are read here and nothing is worked out from them but sizes.
"""

from simulator.catalog.files import data_folder, examples_folder
from simulator.catalog.gpu import GpuSpec
from simulator.catalog.mig import mig_slice
from simulator.catalog.model import ModelSpec, PerLayer
from simulator.catalog.tables import (
    constants,
    find_gpu,
    find_model,
    hub_id,
    in_catalog,
    load_analytic_error,
    load_api_prices,
    load_billing,
    load_carbon,
    load_commitments,
    load_discrepancy,
    load_gpus,
    load_models,
    load_power,
    load_prices,
    load_serve_flags,
    load_stages,
)

__all__ = [
    "GpuSpec",
    "ModelSpec",
    "PerLayer",
    "constants",
    "data_folder",
    "examples_folder",
    "find_gpu",
    "find_model",
    "hub_id",
    "in_catalog",
    "load_analytic_error",
    "load_api_prices",
    "load_billing",
    "load_carbon",
    "load_commitments",
    "load_discrepancy",
    "load_gpus",
    "load_models",
    "load_power",
    "load_prices",
    "load_serve_flags",
    "load_stages",
    "mig_slice",
]
