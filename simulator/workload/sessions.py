"""Requests that follow each other: turns of a conversation, dependent calls of an agent, users in a closed loop.

A turn's prompt is the conversation so far and something new. Token by token: the own stream of an earlier turn is what
its prompt added and its answer, so the next turn begins with the system prompt and the streams of all turns before it.
Where part of the answer is left out of later prompts (reasoning), only what the earlier turn's prompt added is
found again; the rest of its answer stands at another place and is new.
"""

from typing import Literal

import numpy as np

from simulator.workload.columns import FREED, NONE, OWN_STREAM
from simulator.workload.fields import Config, Count, Level, Positive, Seconds, Tokens
from simulator.workload.lengths import LengthConfig
from simulator.workload.waits import FixedWait, WaitConfig


class Session(Config):
    """A conversation of several turns, or an agent's calls that wait for each other.

    turns               requests of a session
    wait_s              after an answer, until the next request: thinking, or a tool's time
    next_prompt_tokens  what each later turn adds to the conversation (a question, a tool's output); null: as the first
    stripped_share      of an answer that later prompts leave out (reasoning), from its beginning
    max_context_tokens  a turn whose prompt and answer would be longer ends its session before it; null: no limit

    A turn that does not complete ends its session. Whether the engine finds the conversation in its prefix cache is
    for the engine and the router to say.
    """

    turns: LengthConfig
    wait_s: WaitConfig = FixedWait()
    next_prompt_tokens: LengthConfig | None = None
    stripped_share: Level = 0.0
    max_context_tokens: Tokens | None = None


class ClosedLoop(Config):
    """``concurrency`` users, each with one request (or session) at a time: a new one is sent after one has ended.

    concurrency  users; ``--max-concurrency`` of ``vllm bench serve`` without a request rate
    requests     at most so many in all (sessions, for a class that has them)
    wait_s       of a user between an end and what it sends next
    start_s      when the users begin [s]
    ramp_s       they begin one after another, evenly over this time [s]
    duration_s   nothing is sent so long after ``start_s`` [s]; null: until the requests are used up
    """

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Count
    requests: Count
    wait_s: WaitConfig = FixedWait()
    start_s: Seconds = 0.0
    ramp_s: Seconds = 0.0
    duration_s: Positive | None = None

    def arrivals(self, wait_rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each request (or session): arrival [s] (NaN: when a user is free), ``after``, and the wait before it
        [s]."""
        arrival_s, after = np.full(self.requests, np.nan), np.full(self.requests, FREED)
        first = min(self.concurrency, self.requests)
        arrival_s[:first] = self.start_s + self.ramp_s * np.arange(first) / self.concurrency
        after[:first] = NONE
        return arrival_s, after, self.wait_s.quantile(wait_rng.random(self.requests))


def starts(turns: np.ndarray) -> np.ndarray:
    """The first request of each session, where sessions of so many ``turns`` lie one after another."""
    return np.cumsum(turns) - turns


def places(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each request, where sessions of so many ``turns`` lie one after another: its session and its turn, from 0.

    >>> places(np.array([2, 1]))
    (array([0, 0, 1]), array([0, 1, 0]))
    """
    session = np.repeat(np.arange(len(turns)), turns)
    return session, np.arange(len(session)) - starts(turns)[session]


def within_context(turns: np.ndarray, total: np.ndarray, limit: int) -> np.ndarray:
    """Turns that each session keeps when ``total`` (prompt and answer of each request) may not exceed ``limit``.

    The first is kept always.
    """
    session, turn = places(turns)
    over = (total > limit) & (turn > 0)
    kept = turns.copy()
    np.minimum.at(kept, session[over], turn[over])
    return kept


def contexts(turns: np.ndarray, added: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Prompt of each request without a system prompt: all that was ``added`` up to it, and all ``visible`` answers
    before.

    >>> contexts(np.array([3]), np.array([10, 2, 3]), np.array([5, 5, 5])).tolist()
    [10, 17, 25]
    """
    session, _ = places(turns)
    upto = np.concatenate(([0], np.cumsum(added + visible)))
    return upto[1:] - visible - upto[starts(turns)][session]


def shared_streams(
    turns: np.ndarray, added: np.ndarray, output: np.ndarray, visible: np.ndarray, stripped: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments by which each request repeats the turns before it: owner row, stream, tokens; by owner, in order.

    Streams are ``OWN_STREAM`` + row among these requests.
    """
    session, turn = places(turns)
    owner = np.repeat(np.arange(len(turn)), turn)
    within = np.arange(len(owner)) - np.repeat(starts(turn), turn)
    earlier = starts(turns)[session[owner]] + within
    if stripped:
        carried = np.where(turn > 0, np.concatenate(([0], visible[:-1])), 0)
        tokens = (added + carried)[earlier]
    else:
        tokens = (added + output)[earlier]
    return owner, earlier + OWN_STREAM, tokens
