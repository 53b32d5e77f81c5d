"""What every step-time model is: a configuration, a code and a parameter array for the compiled loop, and how far to
trust it."""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from simulator.catalog.profile import Trust

CONSTANT, AFFINE, ROOFLINE, PIECEWISE, KERNELS = range(5)


class StepTimeConfig(BaseModel):
    """``step_time:`` of a scenario; each kind has fields of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class StepTime:
    """A step-time model ready for the compiled loop."""

    kind: str
    code: int
    params: np.ndarray
    host_s: float
    trust: Trust
    source: str
    notes: tuple[str, ...] = ()
