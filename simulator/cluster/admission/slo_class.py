"""When some classes may be turned away to keep the SLO of others: they give way when the pods are saturated."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.view import View
from simulator.errors import ServelabError, nearest


class SloClassConfig(BaseModel):
    """Requests of the sheddable classes are rejected while no pod has room [1]_.

    .. [1] Gateway API Inference Extension, saturation detector: a pod has room with at most 5 waiting requests and at
       most 0.8 of its KV cache in use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["slo_class"] = "slo_class"
    sheddable: tuple[str, ...] = Field(min_length=1, description="traffic classes that give way")
    queue_depth_threshold: int = Field(default=5, ge=0, description="waiting requests of a pod")
    kv_use_threshold: float = Field(default=0.8, gt=0, le=1, description="share of a pod's KV blocks")


class SloClass:
    """Rejects sheddable requests while every ready pod is over one of the thresholds."""

    def __init__(self, config: SloClassConfig, table: Any, rng: np.random.Generator) -> None:
        for name in config.sheddable:
            if name not in table.classes:
                raise ServelabError(
                    f"admission: slo_class.sheddable names the class {name!r}{nearest(name, table.classes)}, "
                    f"the workload has {', '.join(map(repr, table.classes))}"
                )
        self._config, self._table = config, table
        self._sheddable = {table.classes.index(name) for name in config.sheddable}

    def admits(self, row: int, view: View, waiting: int) -> bool:
        if int(self._table.traffic_class[row]) not in self._sheddable:
            return True
        if not len(view.ready):
            return False
        c, found = self._config, view.signals
        room = (found.waiting <= c.queue_depth_threshold) & (found.kv_use <= c.kv_use_threshold)
        return bool(room[view.ready].any())

    def ended(self, row: int) -> None:
        pass
