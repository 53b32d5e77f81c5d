"""Requests on their way through a path's stages, in simulated time."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from simulator.records.tables import State
from simulator.topology.graph import StageGraph
from simulator.topology.hops import Hops
from simulator.topology.journey import HOLDS, WAITS, Journey
from simulator.topology.path import PathConfig, Pool
from simulator.topology.station import Clock, Station, Visit
from simulator.workload.table import RequestTable

DONE, FAILED, TIMED_OUT, CACHED = range(4)
OUTCOMES = ("done", "failed", "timed_out", "cache_hit")


class Llm(Protocol):
    """What stands behind the LLM's stage."""

    def send(self, row: int, now: float) -> None:
        """Request ``row`` reaches the gateway of the LLM; `Network.answered` is called when it is done with it."""

    def drop(self, row: int, now: float) -> None:
        """Nobody waits for request ``row`` any longer."""

    def again(self, row: int) -> None:
        """Request ``row``, which the LLM has lost, will be sent again."""


class Network:
    """The stages of ``path``; ``enter`` takes a request, ``ended`` is called once with its state.

    ``stages`` lists every attempt: request, stage, attempt, queued, start and end [s], outcome.
    """

    def __init__(
        self,
        path: PathConfig,
        table: RequestTable,
        clock: Clock,
        llm: Llm,
        rng: Callable[[str], np.random.Generator],
        timeout_s: float,
        pods: int,
        ended: Callable[[int, float, State], None],
    ) -> None:
        self._path, self._table, self._clock, self._llm, self._ended = path, table, clock, llm, ended
        self._timeout_s, self._rng = timeout_s, rng
        self._graph, stages = StageGraph(path), path.stages
        self._waits = self._graph.waits
        self._pools = {p.name: Station(clock, p.workers * (pods if p.per_pod else 1)) for p in path.pools}
        self._pool_of = {p.name: p for p in path.pools}
        self.stations = [
            self._pools[s.pool] if s.pool else Station(clock, s.workers * s.replicas, s.batch) for s in stages
        ]
        self.pods = pods
        n = len(table)
        self._draws: list[np.ndarray | None] = [
            None if s.kind == "llm" else s.service.draw(rng(f"stage {s.name}"), n) for s in stages
        ]
        self._chance = [rng(f"stage {s.name} chance").random((n, 3)) if _needs_chance(s) else None for s in stages]
        self._more = rng("stages, later attempts")
        self._hops = Hops(path, self._graph, table, rng)
        self.way_back_s, self.streams = self._hops.back_s, self._graph.streams
        self._journeys: dict[int, Journey] = {}
        self.log: list[tuple[int, int, int, float, float, float, int]] = []

    # ---- a request's way --------------------------------------------------------------------------------

    def inside(self) -> int:
        """Requests on their way."""
        return len(self._journeys)

    def unfinished(self) -> list[int]:
        """Requests whose clients still wait."""
        return sorted(row for row, journey in self._journeys.items() if journey.open)

    def resize(self, pods: int, now: float) -> None:
        """The LLM has ``pods`` ready pods: pools that scale with it follow."""
        self.pods = pods
        for name, pool in self._pool_of.items():
            if pool.per_pod:
                self._pools[name].resize(pool.workers * max(pods, 1), now)

    def enter(self, row: int, now: float) -> None:
        """The client sends request ``row`` at ``now`` [s]."""
        journey = Journey(self._graph.count, sum(self._waits), now)
        self._journeys[row] = journey
        if self._timeout_s < np.inf:
            self._clock.at(now + self._timeout_s, self._deadline, row, journey, now + self._timeout_s)
        for i in self._graph.entries:
            self._reach(row, journey, i, now)

    def _deadline(self, row: int, journey: Journey, now: float) -> None:
        if journey.open:
            self._close(row, journey, now, State.TIMED_OUT)

    def _reach(self, row: int, journey: Journey, i: int, now: float) -> None:
        """All that comes before stage ``i`` is done."""
        stage, chance = self._path.stages[i], self._chance[i]
        unwanted = i in journey.skipped or (journey.hit and not stage.on_cache_hit)
        if not unwanted and stage.probability < 1:
            assert chance is not None
            unwanted = chance[row, 0] >= stage.probability
        if unwanted:
            self._done(row, journey, i, now, False)
            return
        delay = self._hops.seconds(row, i) if stage.hop else 0.0
        if delay > 0:
            self._clock.at(now + delay, self._attempt, row, journey, i, 0, now + delay)
        else:
            self._attempt(row, journey, i, 0, now)

    def _attempt(self, row: int, journey: Journey, i: int, attempt: int, now: float) -> None:
        if not journey.open and self._waits[i]:
            return
        stage = self._path.stages[i]
        if stage.kind == "llm":
            journey.in_llm = True
            journey.attempt = attempt
            self._llm.send(row, now)
            return
        pool = self._pool_of[stage.pool] if stage.pool else None
        draws = self._draws[i]
        assert draws is not None
        seconds = float(draws[row]) if attempt == 0 else float(stage.service.draw(self._more, 1)[0])
        seconds += stage.prompt_token_s * int(self._table.prompt_tokens[row])
        if i in self._graph.after_llm:
            seconds += stage.output_token_s * int(self._table.output_tokens[row])
        visit = Visit(row, i, attempt, seconds, now, done=self._served)
        if stage.timeout_s is not None:
            self._clock.at(now + stage.timeout_s, self._expired, visit, journey, now + stage.timeout_s)
        if pool is not None and pool.hold == "request":
            self._in_held_worker(row, journey, pool, visit, now)
        else:
            self.stations[i].enter(visit, now)

    def _in_held_worker(self, row: int, journey: Journey, pool: Pool, visit: Visit, now: float) -> None:
        """Serve ``visit`` by the worker that the request keeps; its first visit waits for one."""
        if journey.holds == HOLDS:
            visit.start_s = now
            self._clock.at(now + visit.service_s, self._served, visit, now + visit.service_s)
            return
        station = self._pools[pool.name]
        journey.holds = WAITS
        hold = Visit(row, visit.stage, visit.attempt, 0.0, now)

        def granted(_: Visit, at: float) -> None:
            if not journey.open:
                return
            station.busy += 1  # the worker stays with the request until `_close`
            journey.holds = HOLDS
            visit.start_s = at
            self._clock.at(at + visit.service_s, self._served, visit, at + visit.service_s)

        hold.done = granted
        station.enter(hold, now)

    def _served(self, visit: Visit, now: float) -> None:
        journey = self._journeys.get(visit.row)
        if visit.gone or journey is None:
            return
        stage, chance = self._path.stages[visit.stage], self._chance[visit.stage]
        failed = False
        if stage.failure_probability > 0:
            assert chance is not None
            draw = chance[visit.row, 1] if visit.attempt == 0 else self._more.random()
            failed = draw < stage.failure_probability
        visit.gone = True
        self._over(visit.row, journey, visit, now, FAILED if failed else DONE)

    def _expired(self, visit: Visit, journey: Journey, now: float) -> None:
        if not visit.gone:
            visit.gone = True
            self._over(visit.row, journey, visit, now, TIMED_OUT)

    def _over(self, row: int, journey: Journey, visit: Visit, now: float, outcome: int) -> None:
        """An attempt has ended: on to the next stages, or once more, or it was the last."""
        stage, i = self._path.stages[visit.stage], visit.stage
        hit = False
        if outcome == DONE and stage.cache_hit_probability > 0:
            chance = self._chance[i]
            assert chance is not None
            hit = bool(chance[row, 2] < stage.cache_hit_probability)
        start = visit.start_s if visit.start_s < np.inf else now
        self.log.append((row, i, visit.attempt, visit.queued_s, start, now, CACHED if hit else outcome))
        if outcome != DONE and visit.attempt < stage.retries and (journey.open or not self._waits[i]):
            later = now + stage.backoff_s * 2.0**visit.attempt
            self._clock.at(later, self._attempt, row, journey, i, visit.attempt + 1, later)
            return
        if outcome != DONE and not stage.optional and self._waits[i]:
            self._close(row, journey, now, State.FAILED)
            return
        journey.hit = journey.hit or hit
        self._done(row, journey, i, now, True)

    def _done(self, row: int, journey: Journey, i: int, now: float, ran: bool) -> None:
        """Stage ``i`` is behind request ``row``."""
        journey.past.add(i)
        if self._graph.branches[i]:
            chance = self._chance[i]
            assert chance is not None
            chosen = -1
            if ran:
                chosen = self._graph.branches[i][
                    int(np.searchsorted(self._graph.odds[i], chance[row, 0], side="right"))
                ]
            journey.skipped.update(b for b in self._graph.branches[i] if b != chosen)
        if self._waits[i]:
            journey.critical -= 1
        for k in self._graph.follow[i]:
            journey.left[k] -= 1
            if journey.left[k] == 0 and (journey.open or not self._waits[k]):
                if self._graph.before[k] and all(b in journey.skipped for b in self._graph.before[k]):
                    journey.skipped.add(k)
                self._reach(row, journey, k, now)
        if journey.open and journey.critical == 0:
            self._answer(row, journey, now)
        self._forget(row, journey)

    def answered(self, row: int, now: float, state: State) -> None:
        """The LLM is done with request ``row``."""
        journey = self._journeys.get(row)
        if journey is None or not journey.in_llm:
            return
        journey.in_llm = False
        i, stage = self._graph.llm, self._path.stages[self._graph.llm]
        if not journey.open:
            self._forget(row, journey)
            return
        if state is State.COMPLETED:
            self._done(row, journey, i, now, True)
        elif state in (State.REJECTED, State.FAILED) and journey.attempt < stage.retries:
            later = now + stage.backoff_s * 2.0**journey.attempt
            self._llm.again(row)
            self._clock.at(later, self._attempt, row, journey, i, journey.attempt + 1, later)
        else:
            self._close(row, journey, now, state)

    def _answer(self, row: int, journey: Journey, now: float) -> None:
        """The last stage that the client waits for is done: the answer goes back over one hop."""
        back = self.way_back_s
        if back > 0:
            self._clock.at(now + back, self._close, row, journey, now + back, State.COMPLETED)
            journey.critical = -1
        else:
            self._close(row, journey, now, State.COMPLETED)

    def _close(self, row: int, journey: Journey, now: float, state: State) -> None:
        """Request ``row`` has ended for its client."""
        if not journey.open:
            return
        journey.open = False
        if journey.holds == HOLDS:
            pool = next(p for p in self._path.pools if p.hold == "request")
            station = self._pools[pool.name]
            station.busy -= 1
            station.busy_s += now - journey.sent_s
            station.resize(station.servers, now)
        if journey.in_llm:
            self._llm.drop(row, now)
        self._ended(row, now, state)
        self._forget(row, journey)

    def _forget(self, row: int, journey: Journey) -> None:
        """Drop what is finished for all, the stages off the critical path included."""
        if not journey.open and not journey.in_llm:
            waiting = [i for i, w in enumerate(self._waits) if not w]
            if not waiting or all(journey.left[i] > 0 or i in journey.past for i in waiting):
                self._journeys.pop(row, None)


def _needs_chance(s: Any) -> bool:
    return s.probability < 1 or bool(s.branches) or s.cache_hit_probability > 0 or s.failure_probability > 0
