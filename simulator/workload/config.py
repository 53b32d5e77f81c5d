"""The ``workload:`` part of a scenario: one frozen config per source, told apart by ``source``."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from simulator.core.slo import SloConfig
from simulator.workload.fields import Config, Count, Positive, Seconds, Share, Tokens, Weight
from simulator.workload.formats.access_log import LogColumns
from simulator.workload.lengths import LengthConfig
from simulator.workload.presets import preset
from simulator.workload.processes import ArrivalConfig
from simulator.workload.sessions import ClosedLoop, Session


class _OpenLoop(Config):
    """Requests arrive at ``rate_rps`` whether or not earlier ones are served.

    Give exactly one of ``duration_s`` (all arrivals before it) and ``requests`` (so many arrivals).
    ``max_tokens`` is what each client asks for [token]; None: its request's true output length. An answer
    that would have been longer ends at ``max_tokens``, as it does in an engine.
    """

    rate_rps: Positive = Field(description="mean arrivals")
    duration_s: Positive | None = Field(default=None, description="all arrivals before it; or give requests")
    requests: Count | None = Field(default=None, description="so many arrivals; or give duration_s")
    max_tokens: Tokens | None = Field(
        default=None, description="what each client asks for; null: its request's true output length"
    )

    @model_validator(mode="after")
    def _one_length(self) -> "_OpenLoop":
        if (self.duration_s is None) == (self.requests is None):
            got = f"duration_s={self.duration_s}, requests={self.requests}"
            raise ValueError(f"give exactly one of duration_s and requests, got {got}")
        return self


class SharedPrefix(Config):
    """A ``share`` of the requests puts one of ``groups`` system prompts of ``tokens`` before its own prompt.

    The group is drawn evenly. The prefix adds to the drawn prompt length, as ``--random-prefix-len`` of
    ``vllm bench serve`` does, so every prompt keeps at least one token of its own.
    """

    groups: Count
    tokens: Tokens
    share: Share = 1.0


class PoissonWorkload(_OpenLoop):
    """Poisson arrivals with independent prompt and output lengths.

    ``priority_weights`` maps a priority (lower is served first) to its weight; None: all 0.
    """

    source: Literal["poisson"] = "poisson"
    prompt_tokens: LengthConfig
    output_tokens: LengthConfig
    priority_weights: dict[int, Weight] | None = None
    shared_prefix: SharedPrefix | None = None

    @model_validator(mode="after")
    def _some_weight(self) -> "PoissonWorkload":
        if self.priority_weights is not None and sum(self.priority_weights.values()) <= 0:
            raise ValueError(f"priority_weights must add up to more than 0, got {self.priority_weights}")
        return self


class AzureConversation(_OpenLoop):
    """The embedded default: a generator fitted to the Azure 2023 conversation trace (see `conversation`).

    ``rate_rps`` is the mean over the run. ``profile`` is how the rate and the mix of applications move:
    ``recorded``, as in the trace's hour, again and again, or ``flat``, with the trace's mean mix.
    ``profile_s`` is the time that one pass of the recorded profile takes [s]; None: as long as recorded.
    """

    source: Literal["azure_conversation"] = "azure_conversation"
    profile: Literal["recorded", "flat"] = Field(
        default="recorded", description="how rate and mix move: as in the trace's hour, or not at all"
    )
    profile_s: Positive | None = Field(
        default=None, description="time of one pass of the recorded profile; null: as long as recorded"
    )

    @model_validator(mode="after")
    def _profile_is_used(self) -> "AzureConversation":
        if self.profile == "flat" and self.profile_s is not None:
            raise ValueError(f"profile_s ({self.profile_s}) has no meaning with profile 'flat'; leave it out")
        return self


class Bootstrap(Config):
    """A block bootstrap: blocks of ``block_s`` [s] drawn with replacement, for replications of a recorded day.

    ``duration_s`` is how long the result lasts [s]; None: as long as the whole blocks of the part.
    """

    block_s: Positive
    duration_s: Positive | None = None


class TraceWorkload(Config):
    """Replay of a file; `trace` says which columns each format has.

    path         file, relative to the scenario's folder: text, text packed with gzip, or ``.parquet``
    format       ``azure``, ``servelab``, ``burstgpt``, ``mooncake``, ``vllm_bench``, ``access_log``, or ``auto``: told
                 by the columns
    columns      of an access log: what it calls them
    max_bad_share  share of rows that may be left out because they cannot be used (failed requests, damaged
                 lines); they are counted and shown in a warning. 0: the first is an error

    What is done to it, in this order:

    start_s, end_s   the part to replay [s of the trace's clock, 0: first request of an Azure trace];
                 start_s becomes 0 s of the simulation; end_s is how long it was observed (None: to its last request)
    sample       share of the requests, drawn independently
    bootstrap    blocks of the part, drawn anew for each seed
    rate_rps     mean rate that the clock is changed to give [request/s]
    rate_scale   or: the part is played so many times faster: 2 halves every interval
    limit        at most so many requests, the first ones
    max_tokens   what each client asks for [token]; None: the file's column, else the true length. Answers
                 that were longer end at ``max_tokens``.
    """

    source: Literal["trace"] = "trace"
    path: Annotated[str, Field(min_length=1)]
    format: Literal["burstgpt", "mooncake", "vllm_bench", "access_log", "auto", "azure", "servelab"] = "auto"
    columns: LogColumns | None = None
    max_bad_share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)] = 0.0
    rate_scale: Positive = 1.0
    rate_rps: Positive | None = None
    start_s: Seconds = 0.0
    end_s: Positive | None = None
    sample: Share = 1.0
    bootstrap: Bootstrap | None = None
    limit: Count | None = None
    max_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "TraceWorkload":
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s must be greater than start_s ({self.start_s}), got {self.end_s}")
        if (self.columns is None) == (self.format == "access_log"):
            raise ValueError(f"columns are for format 'access_log', which needs them; format is {self.format!r}")
        if self.rate_rps is not None and self.rate_scale != 1:
            raise ValueError(f"give rate_rps ({self.rate_rps}) or rate_scale ({self.rate_scale}), not both")
        return self


class TrafficClass(Config):
    """One kind of traffic: when its requests come, how long they are, what they share.

    preset         takes what is not given (lengths, prefix, name) from `presets`; a scenario shows the values, not the
                   name
    correlation    rank correlation (Spearman) of prompt and output lengths; 0: independent
    max_tokens     what each client asks for [token], as in the other sources
    priority       of all its requests, lower is served first
    shared_prefix  system prompts of this class alone
    session        its arrivals are those of sessions, whose later requests wait for the answers before them
    tenants        who sends them, with weights; a session has one
    slo            its own objectives; null: those of the scenario
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra=lambda schema: schema.update(required=["arrivals"])
    )

    preset: str | None = None
    name: Annotated[str, Field(min_length=1)] = "traffic"
    arrivals: ArrivalConfig | ClosedLoop = Field(discriminator="kind")
    prompt_tokens: LengthConfig
    output_tokens: LengthConfig
    correlation: Annotated[float, Field(gt=-1, lt=1, allow_inf_nan=False, strict=True)] = 0.0
    max_tokens: Tokens | None = None
    priority: Annotated[int, Field(ge=-(2**31) + 1, le=2**31 - 1, strict=True)] = 0
    shared_prefix: SharedPrefix | None = None
    session: Session | None = None
    tenants: dict[Annotated[str, Field(min_length=1)], Positive] | None = None
    slo: SloConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("preset"), str):
            return data
        given = {key: value for key, value in data.items() if key != "preset"}
        return {**preset(data["preset"]), **given}


class SyntheticWorkload(Config):
    """Classes of traffic, laid over each other. See docs/workloads.md.

    Give exactly one of ``duration_s`` (all arrivals before it, later turns of sessions too) and ``requests`` (so many
    in all; not where there are sessions or closed loops). Of closed loops alone neither is needed. A class draws from
    seeds found by its name: changing one leaves the others as they were.
    """

    source: Literal["synthetic"] = "synthetic"
    duration_s: Positive | None = None
    requests: Count | None = None
    classes: tuple[TrafficClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _usable(self) -> "SyntheticWorkload":
        loops = [isinstance(c.arrivals, ClosedLoop) for c in self.classes]
        given = (self.duration_s is not None) + (self.requests is not None)
        if given != 1 and not (given == 0 and all(loops)):
            got = f"duration_s={self.duration_s}, requests={self.requests}"
            raise ValueError(f"give exactly one of duration_s and requests, got {got}")
        if self.requests is not None and (any(loops) or any(c.session for c in self.classes)):
            raise ValueError(
                f"requests ({self.requests}) does not say which requests of sessions and closed loops it counts; "
                "give duration_s"
            )
        names = [c.name for c in self.classes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two classes are named {name!r}")
        return self


WorkloadConfig = Annotated[
    PoissonWorkload | TraceWorkload | AzureConversation | SyntheticWorkload, Field(discriminator="source")
]
