"""To see what paged memory is worth: iteration-level batching as published, each sequence's whole memory reserved."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import RESERVED


class OrcaServing(ServingPart):
    """Iteration-level batching with the whole sequence's memory reserved on admission [1]_.

    .. [1] Yu et al., Orca: A Distributed Serving System for Transformer-Based Generative Models, OSDI 2022, algorithm
    1.
    """

    kind: Literal["orca"] = "orca"
    max_batch_size: int | None = Field(default=None, ge=1, description="None: engine.max_num_seqs")

    def batching(self) -> Batching:
        return Batching(RESERVED, self.max_batch_size)
