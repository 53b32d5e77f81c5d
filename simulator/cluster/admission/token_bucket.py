"""When the contract is a rate: a limit with bursts, in requests or tokens."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.view import View


class TokenBucketConfig(BaseModel):
    """A bucket of ``burst`` that fills at ``rate`` a second; a request takes 1, or its prompt and its
    ``max_tokens``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["token_bucket"] = "token_bucket"
    rate: float = Field(gt=0, description="[request/s] or [token/s]")
    burst: float = Field(gt=0, description="[request] or [token]")
    unit: Literal["request", "token"] = "request"
    per: Literal["all", "tenant", "traffic_class"] = "all"


class TokenBucket:
    """Rejects what finds too little in its bucket; buckets are full at the start."""

    def __init__(self, config: TokenBucketConfig, table: Any, rng: np.random.Generator) -> None:
        self._config, self._table = config, table
        self._level: dict[int, tuple[float, float]] = {}  # level and when it was that

    def admits(self, row: int, view: View, waiting: int) -> bool:
        c, table = self._config, self._table
        key = 0 if c.per == "all" else int(getattr(table, c.per)[row])
        need = 1.0 if c.unit == "request" else float(table.prompt_tokens[row]) + float(table.max_tokens[row])
        level, since_s = self._level.get(key, (c.burst, view.now_s))
        level = min(c.burst, level + c.rate * (view.now_s - since_s))
        taken = level >= need
        self._level[key] = (level - need if taken else level, view.now_s)
        return taken

    def ended(self, row: int) -> None:
        pass
