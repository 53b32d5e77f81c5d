"""The source ``synthetic``: classes of traffic, each with its process, lengths, sessions and prefixes, merged."""

from dataclasses import dataclass

import numpy as np

from simulator.core.seeds import named_rng, named_seed
from simulator.errors import ServelabError
from simulator.workload.columns import COLUMNS, NONE, OWN_STREAM
from simulator.workload.config import SharedPrefix, SyntheticWorkload, TrafficClass
from simulator.workload.lengths import draw_joint_lengths, draw_lengths
from simulator.workload.processes import draw_arrivals
from simulator.workload.sessions import ClosedLoop, Session, contexts, places, shared_streams, within_context
from simulator.workload.table import RequestTable

LONGEST_S = 1e10  # 300 years: a workload that needs longer for its requests does not reach them


@dataclass(frozen=True)
class _Part:
    """The requests of one class; ``place_s`` is where they stand among the others, rows refer to this part.

    ``owner``, ``stream`` and ``tokens`` are the segments of shared prefixes, by owner.
    """

    place_s: np.ndarray
    columns: dict[str, np.ndarray]
    owner: np.ndarray
    stream: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.place_s)


def synthetic_table(config: SyntheticWorkload, seed: np.random.SeedSequence) -> RequestTable:
    """The requests of all classes in order of arrival; those of a session stand together.

    Raises ServelabError when no request arrives in ``duration_s``, or the rates end before ``requests`` came.
    """
    seeds = [named_seed(seed, f"class {c.name}") for c in config.classes]
    if config.requests is None:
        arrivals = _arrivals(config.classes, seeds, config.duration_s or 0.0)
        if not any(map(len, arrivals)) and not any(isinstance(c.arrivals, ClosedLoop) for c in config.classes):
            raise ServelabError(f"no request arrives within duration_s {config.duration_s}; raise it or a rate")
    else:
        arrivals = _first_arrivals(config, seeds)
    tenants = sorted({name for c in config.classes for name in c.tenants or ("",)})
    parts: list[_Part] = []
    streams = sessions = 0
    for i, (traffic, one, arrival_s) in enumerate(zip(config.classes, seeds, arrivals, strict=True)):
        part = _part(traffic, one, arrival_s, config.duration_s)
        group = part.stream < OWN_STREAM
        part.stream[group] += streams
        part.columns["tenant"] = _tenant(traffic, part, tenants, named_rng(one, "tenants"))
        part.columns["traffic_class"] = np.full(len(part), i, np.int16)
        if isinstance(traffic.arrivals, ClosedLoop):
            part.columns["pool"] = np.full(len(part), i, np.int16)
        if traffic.session is not None:
            part.columns["session"] += sessions
            sessions = int(part.columns["session"].max(initial=sessions - 1)) + 1
        streams += traffic.shared_prefix.groups if traffic.shared_prefix is not None else 0
        parts.append(part)
    return _merged(parts, tuple(c.name for c in config.classes), tuple(tenants))


def _merged(parts: list[_Part], classes: tuple[str, ...], tenants: tuple[str, ...]) -> RequestTable:
    """One table of the parts, by place; of equals the earlier part first."""
    offsets = np.cumsum([0, *map(len, parts)])
    n = int(offsets[-1])
    names = set().union(*(p.columns for p in parts))
    columns = {
        name: np.concatenate(
            [p.columns[name] if name in p.columns else np.full(len(p), COLUMNS[name][1]) for p in parts]
        )
        for name in names
    }
    if "after" in columns:
        shift = np.repeat(offsets[:-1], [len(p) for p in parts])
        columns["after"] = np.where(columns["after"] >= 0, columns["after"] + shift, columns["after"])
    owner = np.concatenate([p.owner + o for p, o in zip(parts, offsets, strict=False)])
    stream = np.concatenate(
        [np.where(p.stream >= OWN_STREAM, p.stream + o, p.stream) for p, o in zip(parts, offsets, strict=False)]
    )
    tokens = np.concatenate([p.tokens for p in parts])
    if len(parts) > 1:
        order = np.argsort(np.concatenate([p.place_s for p in parts]), kind="stable")
        new = np.empty(n, np.int64)
        new[order] = np.arange(n)
        columns = {name: values[order] for name, values in columns.items()}
        if "after" in columns:
            after = columns["after"]
            columns["after"] = np.where(after >= 0, new[np.maximum(after, 0)], after)
        own = stream >= OWN_STREAM
        stream[own] = OWN_STREAM + new[stream[own] - OWN_STREAM]
        by_owner = np.argsort(new[owner], kind="stable")
        owner, stream, tokens = new[owner][by_owner], stream[by_owner], tokens[by_owner]
    start = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=n))))
    return RequestTable.from_columns(
        **columns, segment_start=start, segment_stream=stream, segment_tokens=tokens, classes=classes, tenants=tenants
    )


def draw_groups(prefix: SharedPrefix, n: int, rng: np.random.Generator) -> np.ndarray:
    """The system prompt of each request, from 0; -1: none."""
    draws = rng.random((n, 2))
    group = (draws[:, 1] * prefix.groups).astype(np.int64)
    return np.where(draws[:, 0] < prefix.share, group, -1)


def pick(weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Which of the ``weights`` each uniform draw falls on."""
    return np.minimum(np.searchsorted(np.cumsum(weights) / weights.sum(), u, "right"), len(weights) - 1)


def limit_output(output: np.ndarray, max_tokens: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The lengths as they come out under ``max_tokens``, and what each client asks for."""
    if max_tokens is None:
        return output, output
    return np.minimum(output, max_tokens).astype(np.int32), np.full(len(output), max_tokens, np.int32)


def _tenant(traffic: TrafficClass, part: _Part, tenants: list[str], rng: np.random.Generator) -> np.ndarray:
    """The tenant of each request, one for all of a session."""
    if not traffic.tenants:
        return np.full(len(part), tenants.index(""), np.int32)
    whose = part.columns.get("session", np.arange(len(part)))
    u = rng.random(int(whose.max(initial=-1)) + 1)[whose]
    numbers = np.array([tenants.index(name) for name in traffic.tenants], np.int32)
    return numbers[pick(np.array(list(traffic.tenants.values())), u)]


def _arrivals(
    classes: tuple[TrafficClass, ...], seeds: list[np.random.SeedSequence], horizon_s: float
) -> list[np.ndarray]:
    """Arrivals of the classes (or of their sessions) before ``horizon_s``; none of closed loops."""
    return [
        np.zeros(0)
        if isinstance(c.arrivals, ClosedLoop)
        else draw_arrivals(c.arrivals, named_rng(s, "arrivals"), horizon_s)
        for c, s in zip(classes, seeds, strict=True)
    ]


def _first_arrivals(config: SyntheticWorkload, seeds: list[np.random.SeedSequence]) -> list[np.ndarray]:
    """The arrivals of each class among the first ``config.requests`` of all."""
    wanted = config.requests or 0
    processes = [c.arrivals for c in config.classes if not isinstance(c.arrivals, ClosedLoop)]
    cv = max(p.variation() for p in processes)
    enough = wanted + 4 * cv * np.sqrt(wanted) + 4  # seldom fewer than wanted come
    horizon_s = 1.0
    while sum(p.rate(horizon_s).integral(horizon_s) for p in processes) < enough:
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


def _part(
    traffic: TrafficClass, seed: np.random.SeedSequence, arrival_s: np.ndarray, duration_s: float | None
) -> _Part:
    """The requests of a class whose requests (or sessions) arrive at ``arrival_s``, nothing after ``duration_s``."""
    columns: dict[str, np.ndarray] = {}
    until_s, place_s = np.inf if duration_s is None else duration_s, arrival_s
    if isinstance(traffic.arrivals, ClosedLoop):
        loop = traffic.arrivals
        arrival_s, columns["after"], columns["wait_s"] = loop.arrivals(named_rng(seed, "waits"))
        until_s = min(until_s, np.inf if loop.duration_s is None else loop.start_s + loop.duration_s)
        place_s = np.fmax.accumulate(arrival_s)  # the ones that wait stand behind the first
    if traffic.session is not None:
        return _conversations(traffic, traffic.session, seed, arrival_s, place_s, columns, until_s)
    n = len(arrival_s)
    prompt, output = draw_joint_lengths(
        traffic.prompt_tokens, traffic.output_tokens, traffic.correlation, n, named_rng(seed, "lengths")
    )
    group, tokens = _system_prompts(traffic, n, seed)
    columns["arrival_s"], columns["prompt_tokens"] = arrival_s, prompt + tokens
    columns["output_tokens"], columns["max_tokens"] = limit_output(output, traffic.max_tokens)
    columns["priority"] = np.full(n, traffic.priority, np.int32)
    if "after" in columns:
        columns["until_s"] = np.full(n, until_s)
    owner = np.flatnonzero(group >= 0)
    return _Part(place_s, columns, owner, group[owner], tokens[owner])


def _system_prompts(traffic: TrafficClass, n: int, seed: np.random.SeedSequence) -> tuple[np.ndarray, np.ndarray]:
    """The system prompt of each request or session (-1: none) and its tokens."""
    if traffic.shared_prefix is None:
        return np.full(n, -1, np.int64), np.zeros(n, np.int32)
    group = draw_groups(traffic.shared_prefix, n, named_rng(seed, "shared_prefix"))
    return group, np.where(group >= 0, traffic.shared_prefix.tokens, 0).astype(np.int32)


def _conversations(
    traffic: TrafficClass,
    config: Session,
    seed: np.random.SeedSequence,
    arrival_s: np.ndarray,
    place_s: np.ndarray,
    roots: dict[str, np.ndarray],
    until_s: float,
) -> _Part:
    """The turns of sessions whose first requests come at ``arrival_s``; ``roots``: further columns of those."""
    sessions = len(arrival_s)
    turns = draw_lengths(config.turns, sessions, named_rng(seed, "turns")).astype(np.int64)
    session, turn = places(turns)
    n = len(session)
    added, output = draw_joint_lengths(
        traffic.prompt_tokens, traffic.output_tokens, traffic.correlation, n, named_rng(seed, "lengths")
    )
    if config.next_prompt_tokens is not None:
        later = draw_lengths(config.next_prompt_tokens, n, named_rng(seed, "next_prompt_tokens"))
        added = np.where(turn > 0, later, added)
    output, asked = limit_output(output, traffic.max_tokens)
    wait_s = config.wait_s.quantile(named_rng(seed, "turn waits").random(n))
    visible = output - np.rint(config.stripped_share * output).astype(np.int64)
    group, system = _system_prompts(traffic, sessions, seed)
    if config.max_context_tokens is not None:
        total = system[session] + contexts(turns, added, visible) + output
        kept = within_context(turns, total, config.max_context_tokens)
        stay = turn < kept[session]
        turns, session, turn = kept, session[stay], turn[stay]
        added, output, asked, wait_s, visible = (x[stay] for x in (added, output, asked, wait_s, visible))
        n = len(session)
    first = turn == 0
    columns = {
        "arrival_s": np.where(first, arrival_s[session], np.nan),
        "prompt_tokens": system[session] + contexts(turns, added, visible),
        "output_tokens": output,
        "max_tokens": asked,
        "priority": np.full(n, traffic.priority, np.int32),
        "session": session,
        "after": np.where(first, roots.get("after", np.full(sessions, NONE))[session], np.arange(n) - 1),
        "wait_s": np.where(first, roots.get("wait_s", np.zeros(sessions))[session], wait_s),
        "until_s": np.full(n, until_s),
    }
    owner, stream, tokens = shared_streams(turns, added, output, visible, config.stripped_share > 0)
    begins = np.flatnonzero(group[session] >= 0)  # the system prompt comes before the earlier turns
    owner = np.concatenate([begins, owner])
    order = np.argsort(owner, kind="stable")
    stream = np.concatenate([group[session[begins]], stream])[order]
    tokens = np.concatenate([system[session[begins]], tokens])[order]
    return _Part(place_s[session], columns, owner[order], stream, tokens)
