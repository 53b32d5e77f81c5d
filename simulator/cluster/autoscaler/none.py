"""When the fleet is fixed: no autoscaling."""

import math
from typing import Literal

from pydantic import Field

from simulator.cluster.autoscaler.base import MOST_REPLICAS, Bounds, Decision, Reading


class NoneConfig(Bounds):
    kind: Literal["none"] = "none"
    max_replicas: int = Field(default=MOST_REPLICAS, ge=1, le=MOST_REPLICAS, description="never more")


class NoScaling:
    """Keeps the replicas (within the bounds, if some are given), and needs no decisions at all."""

    def __init__(self, config: NoneConfig) -> None:
        self.config, self.period_s = config, math.inf

    def decide(self, reading: Reading) -> Decision:
        return Decision(self.config.clipped(reading.replicas), "no autoscaling")
