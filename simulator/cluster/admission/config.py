"""Whether the gateway takes a request at all: `base` says what a policy is, `config` lists the kinds, then a file each
with its config and its class.

A policy sees the gateway's view and nothing of the future.
"""

from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field

from simulator.cluster.admission.queue_length import QueueLength, QueueLengthConfig
from simulator.cluster.admission.shed import Shed, ShedConfig
from simulator.cluster.admission.slo_class import SloClass, SloClassConfig
from simulator.cluster.admission.tenant_fairness import TenantFairness, TenantFairnessConfig
from simulator.cluster.admission.token_bucket import TokenBucket, TokenBucketConfig
from simulator.cluster.view import View


class Admission(Protocol):
    """A policy of admission."""

    def admits(self, row: int, view: View, waiting: int) -> bool:
        """Whether request ``row`` is taken, with ``waiting`` requests held at the gateway. ``view.ready`` may be
        empty."""

    def ended(self, row: int) -> None:
        """Request ``row``, which was taken, has ended."""


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
