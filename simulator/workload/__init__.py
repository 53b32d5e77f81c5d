"""Traffic: arrivals, lengths and traces, all of which become one `RequestTable`."""

from simulator.workload.config import (
    AzureConversation,
    PoissonWorkload,
    SharedPrefix,
    TraceWorkload,
    WorkloadConfig,
)
from simulator.workload.generate import generate
from simulator.workload.lengths import (
    EmpiricalLength,
    FixedLength,
    LengthConfig,
    LognormalLength,
    UniformLength,
)
from simulator.workload.table import RequestTable
from simulator.workload.trace import read_trace, write_trace

__all__ = [
    "AzureConversation",
    "EmpiricalLength",
    "FixedLength",
    "LengthConfig",
    "LognormalLength",
    "PoissonWorkload",
    "RequestTable",
    "SharedPrefix",
    "TraceWorkload",
    "UniformLength",
    "WorkloadConfig",
    "generate",
    "read_trace",
    "write_trace",
]
