"""The source ``synthetic``: classes of traffic, each with its process, lengths, priority and prefixes, merged."""

import numpy as np

from simulator.errors import ServelabError
from simulator.seeds import named_rng, named_seed
from simulator.workload.config import SharedPrefix, SyntheticWorkload, TrafficClass
from simulator.workload.lengths import draw_joint_lengths
from simulator.workload.processes import draw_arrivals
from simulator.workload.table import RequestTable

LONGEST_S = 1e10  # 300 years: a workload that needs longer for its requests does not reach them


def synthetic_table(config: SyntheticWorkload, seed: np.random.SeedSequence) -> RequestTable:
    """The requests of all classes in order of arrival.

    Raises ServelabError when no request arrives in ``duration_s``, or the rates end before ``requests`` came.
    """
    seeds = [named_seed(seed, f"class {c.name}") for c in config.classes]
    if config.duration_s is not None:
        arrivals = _arrivals(config.classes, seeds, config.duration_s)
        if not any(map(len, arrivals)):
            raise ServelabError(
                f"no request arrives within duration_s {config.duration_s}; raise it or a rate"
            )
    else:
        arrivals = _first_arrivals(config, seeds)
    columns: list[tuple[np.ndarray, ...]] = []
    streams = 0
    for traffic, one, arrival_s in zip(config.classes, seeds, arrivals, strict=True):
        columns.append(_columns(traffic, one, arrival_s, streams))
        streams += traffic.shared_prefix.groups if traffic.shared_prefix is not None else 0
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    if len(columns) > 1:
        order = np.argsort(joined[0], kind="stable")
        joined = [column[order] for column in joined]
    arrival_s, prompt, output, asked, priority, stream, prefix_tokens = joined
    shares = stream >= 0
    return RequestTable.from_columns(
        arrival_s, prompt, output, asked, priority,
        segment_start=np.concatenate(([0], np.cumsum(shares))),
        segment_stream=stream[shares], segment_tokens=prefix_tokens[shares],
    )  # fmt: skip


def draw_groups(prefix: SharedPrefix, n: int, rng: np.random.Generator) -> np.ndarray:
    """The system prompt of each request, from 0; -1: none."""
    draws = rng.random((n, 2))
    group = (draws[:, 1] * prefix.groups).astype(np.int64)
    return np.where(draws[:, 0] < prefix.share, group, -1)


def limit_output(output: np.ndarray, max_tokens: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The lengths as they come out under ``max_tokens``, and what each client asks for."""
    if max_tokens is None:
        return output, output
    return np.minimum(output, max_tokens).astype(np.int32), np.full(len(output), max_tokens, np.int32)


def _arrivals(
    classes: tuple[TrafficClass, ...], seeds: list[np.random.SeedSequence], horizon_s: float
) -> list[np.ndarray]:
    return [
        draw_arrivals(c.arrivals, named_rng(s, "arrivals"), horizon_s)
        for c, s in zip(classes, seeds, strict=True)
    ]


def _first_arrivals(config: SyntheticWorkload, seeds: list[np.random.SeedSequence]) -> list[np.ndarray]:
    """The arrivals of each class among the first ``config.requests`` of all."""
    wanted = config.requests or 0
    cv = max(c.arrivals.variation() for c in config.classes)
    enough = wanted + 4 * cv * np.sqrt(wanted) + 4  # seldom fewer than wanted come
    horizon_s = 1.0
    while sum(c.arrivals.rate(horizon_s).integral(horizon_s) for c in config.classes) < enough:
        horizon_s *= 1.2
        if horizon_s > LONGEST_S:
            raise ServelabError(
                f"the rates of the classes do not reach {wanted} requests; lower requests or raise a rate"
            )
    while True:
        arrivals = _arrivals(config.classes, seeds, horizon_s)
        if sum(map(len, arrivals)) >= wanted:
            break
        horizon_s *= 1.2
    if len(arrivals) == 1:
        return [arrivals[0][:wanted]]
    owner = np.repeat(np.arange(len(arrivals)), [len(a) for a in arrivals])
    first = owner[np.argsort(np.concatenate(arrivals), kind="stable")[:wanted]]
    counts = np.bincount(first, minlength=len(arrivals))
    return [a[:n] for a, n in zip(arrivals, counts, strict=True)]


def _columns(
    traffic: TrafficClass, seed: np.random.SeedSequence, arrival_s: np.ndarray, first_stream: int
) -> tuple[np.ndarray, ...]:
    """Arrival, prompt, output, max_tokens, priority, stream of the shared prefix (-1: none) and its tokens."""
    n = len(arrival_s)
    prompt, output = draw_joint_lengths(
        traffic.prompt_tokens, traffic.output_tokens, traffic.correlation, n, named_rng(seed, "lengths")
    )
    output, asked = limit_output(output, traffic.max_tokens)
    stream, tokens = np.full(n, -1, np.int64), np.zeros(n, np.int32)
    if traffic.shared_prefix is not None:
        group = draw_groups(traffic.shared_prefix, n, named_rng(seed, "shared_prefix"))
        stream = np.where(group >= 0, group + first_stream, -1)
        tokens = np.where(group >= 0, traffic.shared_prefix.tokens, 0).astype(np.int32)
        prompt = prompt + tokens
    return arrival_s, prompt, output, asked, np.full(n, traffic.priority, np.int32), stream, tokens
