"""What a kind of serving is: a configuration under its server's own names, and the batcher that it becomes."""

from math import inf
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from simulator.engine.state import NONE


class Batching(NamedTuple):
    """A batcher as the compiled engine reads it.

    sizes: batches that need not wait for more; from_idle: the window opens when the server is free, not before;
    visible: most waiting requests that it sees (-1: all); max_pending: most requests that may wait (-1: any);
    instances: copies of the model that take turns on the same GPUs.
    """

    code: int
    max_batch: int | None = None
    sizes: tuple[int, ...] = ()
    delay_s: float = 0.0
    from_idle: bool = False
    visible: int = NONE
    max_pending: int = NONE
    queue_timeout_s: float = inf
    instances: int = 1


class ServingPart(BaseModel):
    """``serving:`` of a deployment; each kind has fields of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
