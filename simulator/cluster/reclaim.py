"""Machines that their provider takes back: the other side of spot prices."""

from pydantic import BaseModel, ConfigDict, Field


class ReclaimConfig(BaseModel):
    """How often and how fast a spot machine goes.

    Times between reclaims of a machine are exponential, each machine by itself; when many go at once is not modelled.
    Neither figure has a default: providers publish bands that move by the month.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean_hours: float = Field(gt=0, description="from the start of a machine to its reclaim, on average [h]")
    notice_s: float = Field(ge=0, description="from the notice to the end of the machine [s]")
    keep: int = Field(
        default=0, ge=0, description="the first so many are not reclaimed: those bought on demand or committed"
    )
