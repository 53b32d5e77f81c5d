"""When waiting longer helps nobody: a limit on requests in the system."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.view import View


class QueueLengthConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["queue_length"] = "queue_length"
    max_outstanding_per_pod: int = Field(ge=1, description="requests sent and not ended, and held, by ready pod")


class QueueLength:
    """Rejects when as many requests as the limit allows are in the system already."""

    def __init__(self, config: QueueLengthConfig, table: Any, rng: np.random.Generator) -> None:
        self._most = config.max_outstanding_per_pod

    def admits(self, row: int, view: View, waiting: int) -> bool:
        inside = int(view.outstanding[view.ready].sum()) + waiting
        return inside < self._most * max(len(view.ready), 1)

    def ended(self, row: int) -> None:
        pass
