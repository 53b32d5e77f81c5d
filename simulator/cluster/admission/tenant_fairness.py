"""When tenants share a fleet: none may crowd out the others."""

from collections import Counter
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.view import View


class TenantFairnessConfig(BaseModel):
    """While the pods hold ``busy_outstanding`` requests each or more, a tenant above its equal share is rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["tenant_fairness"] = "tenant_fairness"
    busy_outstanding: int = Field(ge=1, description="[request/pod]")


class TenantFairness:
    """Rejects the requests of a tenant that has more than all of the capacity divided by the tenants present."""

    def __init__(self, config: TenantFairnessConfig, table: Any, rng: np.random.Generator) -> None:
        self._busy, self._tenant = config.busy_outstanding, table.tenant
        self._inside: Counter[int] = Counter()

    def admits(self, row: int, view: View, waiting: int) -> bool:
        tenant = int(self._tenant[row])
        room = self._busy * max(len(view.ready), 1)
        present = len(self._inside) + (tenant not in self._inside)
        if self._inside.total() >= room and self._inside[tenant] >= room / present:
            return False
        self._inside[tenant] += 1
        return True

    def ended(self, row: int) -> None:
        tenant = int(self._tenant[row])
        self._inside[tenant] -= 1
        if self._inside[tenant] <= 0:
            del self._inside[tenant]
