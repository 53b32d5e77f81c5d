"""When load rises slowly and clients retry: random early shedding."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.cluster.router.base import Drawn
from simulator.cluster.view import View


class ShedConfig(BaseModel):
    """Nobody is rejected below ``from_outstanding`` requests by ready pod, all from ``to_outstanding`` on, linear
    between."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["shed"] = "shed"
    from_outstanding: float = Field(ge=0, description="[request/pod]")
    to_outstanding: float = Field(gt=0, description="[request/pod]")

    @model_validator(mode="after")
    def _rises(self) -> "ShedConfig":
        if self.from_outstanding >= self.to_outstanding:
            raise ValueError(
                f"from_outstanding {self.from_outstanding:g} must be below to_outstanding {self.to_outstanding:g}"
            )
        return self


class Shed:
    """Rejects at random, the more the fuller the pods are."""

    def __init__(self, config: ShedConfig, table: Any, rng: np.random.Generator) -> None:
        self._low, self._high = config.from_outstanding, config.to_outstanding
        self._drawn = Drawn(rng)

    def admits(self, row: int, view: View, waiting: int) -> bool:
        load = (int(view.outstanding[view.ready].sum()) + waiting) / max(len(view.ready), 1)
        return float(self._drawn[row][0]) >= (load - self._low) / (self._high - self._low)

    def ended(self, row: int) -> None:
        pass
