"""When a script collects what waits into batches of a fixed size."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class StaticServing(ServingPart):
    """Batches of what waits when the server is free."""

    kind: Literal["static"] = "static"
    batch_size: int = Field(default=8, ge=1, description="largest batch [request]")

    def batching(self) -> Batching:
        return Batching(WHOLE, self.batch_size, (self.batch_size,))
