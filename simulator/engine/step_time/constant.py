"""For textbook servers and tests: every batch takes as long."""

from typing import Literal

import numpy as np
from pydantic import Field

from simulator.engine.step_time.base import CONSTANT, StepTime, StepTimeConfig


class ConstantStepTime(StepTimeConfig):
    """Every batch takes as long. A textbook server, with ``max_num_seqs: 1``."""

    kind: Literal["constant"] = "constant"
    seconds: float = Field(gt=0, description="[s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")


def build(config: ConstantStepTime) -> StepTime:
    """For the compiled loop."""
    return StepTime("constant", CONSTANT, np.array([config.seconds]), config.host_s, "user", "the scenario")
