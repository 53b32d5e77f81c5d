"""A rolling update: all pods of a deployment replaced, a few at a time."""

from math import ceil

from pydantic import BaseModel, ConfigDict, Field


class RolloutConfig(BaseModel):
    """A rolling update, as of a Kubernetes Deployment: all pods are replaced from ``at_s`` on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_s: float = Field(ge=0, description="[s]")
    max_surge: float = Field(default=0.25, ge=0, description="pods above those wanted: below 1 a share, else a number")
    max_unavailable: float = Field(default=0.25, ge=0, description="pods below those wanted, likewise")

    def surge(self, wanted: int) -> int:
        """A share is rounded up, as Kubernetes does; at least one pod may be above or below."""
        return ceil(self.max_surge * wanted) if self.max_surge < 1 else int(self.max_surge)

    def unavailable(self, wanted: int) -> int:
        """A share is rounded down; 1 where no surge is allowed either."""
        found = int(self.max_unavailable * wanted) if self.max_unavailable < 1 else int(self.max_unavailable)
        return max(found, 0 if self.surge(wanted) else 1)
