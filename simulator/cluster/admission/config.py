"""The kinds of admission policies: ``admission:`` of a scenario, and the policies that it makes."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from simulator.cluster.admission.base import Admission
from simulator.cluster.admission.queue_length import QueueLength, QueueLengthConfig
from simulator.cluster.admission.shed import Shed, ShedConfig
from simulator.cluster.admission.slo_class import SloClass, SloClassConfig
from simulator.cluster.admission.tenant_fairness import TenantFairness, TenantFairnessConfig
from simulator.cluster.admission.token_bucket import TokenBucket, TokenBucketConfig

ADMISSIONS: dict[str, Any] = {
    "token_bucket": TokenBucket,
    "queue_length": QueueLength,
    "slo_class": SloClass,
    "shed": Shed,
    "tenant_fairness": TenantFairness,
}

AdmissionConfig = Annotated[
    TokenBucketConfig | QueueLengthConfig | SloClassConfig | ShedConfig | TenantFairnessConfig,
    Field(discriminator="kind"),
]


def make_admission(config: Any, table: Any, rng: np.random.Generator) -> Admission:
    """The policy of one entry of ``admission:``."""
    return ADMISSIONS[config.kind](config, table, rng)


def watches(config: Any) -> bool:
    """Whether the policy must be told when a request ends."""
    return config.kind == "tenant_fairness"
