"""Traffic: arrivals, lengths and traces, all of which become one `RequestTable`.

Who serves the requests and how long that takes is unknown here.
"""

from simulator.workload.config import (
    AzureConversation,
    Bootstrap,
    PoissonWorkload,
    SharedPrefix,
    SyntheticWorkload,
    TraceWorkload,
    TrafficClass,
    WorkloadConfig,
)
from simulator.workload.formats.access_log import LogColumns
from simulator.workload.generate import generate
from simulator.workload.lengths import EmpiricalLength, FixedLength, LengthConfig, LognormalLength, UniformLength
from simulator.workload.rows import TraceWarning
from simulator.workload.table import RequestTable
from simulator.workload.trace import read_trace, write_trace

__all__ = [
    "AzureConversation",
    "Bootstrap",
    "EmpiricalLength",
    "FixedLength",
    "LengthConfig",
    "LogColumns",
    "LognormalLength",
    "PoissonWorkload",
    "RequestTable",
    "SharedPrefix",
    "SyntheticWorkload",
    "TraceWarning",
    "TraceWorkload",
    "TrafficClass",
    "UniformLength",
    "WorkloadConfig",
    "generate",
    "read_trace",
    "write_trace",
]
