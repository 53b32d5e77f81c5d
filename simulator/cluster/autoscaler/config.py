"""How many replicas to want: `base` says what an autoscaler is and what it reads, `config` lists the kinds, then a file
each with its config and its class.

Pure decisions from scraped figures; starting and stopping pods is `simulator.cluster.pods`'s.
"""

from typing import Annotated, Any

from pydantic import Field

from simulator.cluster.autoscaler.hpa import Hpa, HpaConfig
from simulator.cluster.autoscaler.keda import Keda, KedaConfig
from simulator.cluster.autoscaler.kpa import Kpa, KpaConfig
from simulator.cluster.autoscaler.none import NoneConfig, NoScaling
from simulator.cluster.autoscaler.reading import METRICS, Autoscaler, Decision, PodReading, Reading
from simulator.cluster.autoscaler.scheduled import Scheduled, ScheduledConfig

__all__ = [
    "AUTOSCALERS",
    "METRICS",
    "Autoscaler",
    "AutoscalerConfig",
    "Decision",
    "PodReading",
    "Reading",
    "make_autoscaler",
]

AUTOSCALERS: dict[str, Any] = {"hpa": Hpa, "keda": Keda, "kpa": Kpa, "scheduled": Scheduled, "none": NoScaling}

AutoscalerConfig = Annotated[
    HpaConfig | KedaConfig | KpaConfig | ScheduledConfig | NoneConfig, Field(discriminator="kind")
]


def make_autoscaler(config: Any) -> Autoscaler:
    """The autoscaler of an ``autoscaler:`` config, without any history."""
    return AUTOSCALERS[config.kind](config)
