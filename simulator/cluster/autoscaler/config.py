"""The kinds of autoscalers: ``autoscaler:`` of a deployment, and the algorithm that it makes."""

from typing import Annotated, Any

from pydantic import Field

from simulator.cluster.autoscaler.base import Autoscaler
from simulator.cluster.autoscaler.hpa import Hpa, HpaConfig
from simulator.cluster.autoscaler.keda import Keda, KedaConfig
from simulator.cluster.autoscaler.kpa import Kpa, KpaConfig
from simulator.cluster.autoscaler.none import NoneConfig, NoScaling
from simulator.cluster.autoscaler.scheduled import Scheduled, ScheduledConfig

AUTOSCALERS: dict[str, Any] = {"hpa": Hpa, "keda": Keda, "kpa": Kpa, "scheduled": Scheduled, "none": NoScaling}

AutoscalerConfig = Annotated[
    HpaConfig | KedaConfig | KpaConfig | ScheduledConfig | NoneConfig, Field(discriminator="kind")
]


def make_autoscaler(config: Any) -> Autoscaler:
    """The autoscaler of an ``autoscaler:`` config, without any history."""
    return AUTOSCALERS[config.kind](config)
