"""When load follows the clock: replicas by the time of day."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulator.cluster.autoscaler.base import MOST_REPLICAS, Bounds, Decision, Reading

DAY_S = 86_400


class ScheduleEntry(BaseModel):
    """``replicas`` from a time of the day on: ``from``, "HH:MM" in quotes or seconds after midnight [s].

    YAML reads 18:00 without quotes as 1080 (base 60), so whole numbers from 600 to 1439 are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    from_s: float = Field(alias="from", ge=0, lt=DAY_S)
    replicas: int = Field(ge=1, le=MOST_REPLICAS)

    @field_validator("from_s", mode="before")
    @classmethod
    def _clock(cls, given: Any) -> Any:
        if isinstance(given, str):
            found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", given)
            if not found:
                raise ValueError(f"from {given!r}: expected a time of the day from '00:00' to '23:59'")
            return int(found[1]) * 3600.0 + int(found[2]) * 60.0
        if type(given) is int and 600 <= given < 1440:
            hours, minutes = divmod(given, 60)
            raise ValueError(
                f"from {given!r}: for a time write '{hours:02}:{minutes:02}' in quotes (YAML reads it as {given!r} "
                f"without them), for seconds {float(given)}"
            )
        return given


class ScheduledConfig(Bounds):
    """``schedule``: entries in the order of their times, repeated each day; time 0 is a midnight.

    Before the first entry of a day the last one holds. ``sync_period_s``: time between looks at it [s].
    """

    kind: Literal["scheduled"] = "scheduled"
    max_replicas: int = Field(default=MOST_REPLICAS, ge=1, le=MOST_REPLICAS)
    schedule: tuple[ScheduleEntry, ...] = Field(min_length=1)
    sync_period_s: float = Field(default=15.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _rising_in_bounds(self) -> "ScheduledConfig":
        for before, after in zip(self.schedule, self.schedule[1:], strict=False):
            if after.from_s <= before.from_s:
                raise ValueError(
                    f"schedule: {after.from_s:g} s comes after {before.from_s:g} s: times must rise, each once"
                )
        for entry in self.schedule:
            if self.clipped(entry.replicas) != entry.replicas:
                raise ValueError(
                    f"schedule: {entry.replicas} replicas from {entry.from_s:g} s on are not between "
                    f"min_replicas {self.min_replicas} and max_replicas {self.max_replicas}"
                )
        return self


def entry_at(now_s: float, schedule: Sequence[ScheduleEntry]) -> ScheduleEntry:
    """The entry that holds at ``now_s`` [s]; the last one before the first time of the day."""
    return schedule[bisect_right([e.from_s for e in schedule], now_s % DAY_S) - 1]


class Scheduled:
    """Wants what the schedule says, whatever the load."""

    def __init__(self, config: ScheduledConfig) -> None:
        self.config, self.period_s = config, config.sync_period_s

    def decide(self, reading: Reading) -> Decision:
        entry = entry_at(reading.now_s, self.config.schedule)
        return Decision(entry.replicas, f"schedule from {entry.from_s:g} s of the day on")
