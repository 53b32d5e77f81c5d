"""Everything around the replicas of a run, put together: gateway, path, pods, nodes and autoscalers."""

from collections.abc import Sequence
from functools import partial
from itertools import count
from math import inf

import numpy as np

from simulator.cluster.admission.config import make_admission, watches
from simulator.cluster.autoscaler.config import make_autoscaler
from simulator.cluster.course import Course, Progress
from simulator.cluster.fleets import Fleets
from simulator.cluster.gateway import Gateway
from simulator.cluster.nodes import Pod
from simulator.cluster.pod_terms import PodNews, PodTerms, PodWorld
from simulator.cluster.pods import Pods
from simulator.cluster.replicas import Replicas
from simulator.cluster.router.base import Router
from simulator.cluster.scaling import Scaling
from simulator.cluster.supply import Supply
from simulator.cluster.view import View
from simulator.core.seeds import named_rng
from simulator.errors import ServelabError, nearest
from simulator.records.tables import State
from simulator.run.resolved import Resolved
from simulator.scenario import Scenario
from simulator.topology.network import Network
from simulator.workload import RequestTable


def pods_at_most(r: Resolved, reclaimed: bool = False) -> int:
    """Places for the pods of a deployment: as many as it may have, and those that come or go meanwhile."""
    d = r.config
    scaler = d.autoscaler
    if scaler.kind == "scheduled":
        most = max(d.replicas, *(scaler.clipped(entry.replicas) for entry in scaler.schedule))
    else:
        most = d.replicas if scaler.kind == "none" else max(d.replicas, scaler.max_replicas)
    if d.moves or reclaimed:
        most += max(2, most // 4) + d.pod.sleeping
    if d.rollout is not None:
        most += d.rollout.surge(most)
    return most


def plain(scenario: Scenario) -> bool:
    """Whether there is nothing but a router between the clients and replicas that are always there."""
    fixed = not scenario.moves and all(not d.traffic_classes for d in scenario.deployments)
    return (
        fixed
        and not scenario.path
        and not scenario.admission
        and not scenario.nodes
        and (scenario.gateway.max_outstanding_per_pod is None)
    )


def watches_all(scenario: Scenario) -> bool:
    """Whether something must know when each request ends."""
    held = scenario.gateway.max_outstanding_per_pod is not None
    return bool(scenario.path) or held or any(watches(a) for a in scenario.admission)


class Surroundings:
    """One run of ``scenario`` over ``fleets``."""

    def __init__(
        self,
        scenario: Scenario,
        found: Sequence[Resolved],
        fleets: Fleets,
        router: Router,
        table: RequestTable,
        root: np.random.SeedSequence,
        progress: Progress,
    ) -> None:
        self._scenario, self._fleets = scenario, fleets
        timeout = scenario.client.timeout_s
        timeout_s = inf if timeout is None else timeout
        self.course = course = Course(fleets, table, timeout_s, progress)
        course.watching = course.watching or watches_all(scenario)
        view = View(fleets, table, getattr(scenario.router, "signal_age_s", 0.0))
        admission = [
            make_admission(a, table, named_rng(root, f"admission {i}")) for i, a in enumerate(scenario.admission)
        ]
        self.events: list[tuple[float, str, int, int, str]] = []
        self._names = {d.name: i for i, d in enumerate(scenario.deployments)}
        serves = _serves(scenario, fleets, table)
        self.gateway = Gateway(scenario.gateway, fleets, router, admission, table, view, serves, self._lost)
        self.gateway.deadline_s = lambda row, now: float(course.sent_s[row]) + timeout_s
        self.gateway.sent = self._sent
        path = scenario.opened_path()
        self.network: Network | None = None
        if path is not None:
            self.network = Network(
                path, table, course, self, lambda name: named_rng(root, name), timeout_s, len(fleets), course.lose
            )
        self._timeout_s = timeout_s
        course.arrived = self.network.enter if self.network else self.send
        course.answered = self._answered
        course.waiting = lambda: len(self.gateway.inside) + (self.network.inside() if self.network else 0)
        self.supply: Supply | None = None
        if scenario.nodes:
            self.supply = Supply(
                scenario.nodes,
                course,
                self.note,
                self._taken_back,
                named_rng(root, "reclaim nodes"),
                scenario.prices.spot,
            )
        self.pods: list[Pods] = []
        self.scaling: list[Scaling | None] = []
        self._prepare(found, root)

    def _prepare(self, found: Sequence[Resolved], root: np.random.SeedSequence) -> None:
        numbers = count()
        for i, (r, part) in enumerate(zip(found, self._fleets.parts, strict=True)):
            d, first = r.config, self._fleets.first[i]
            e = r.settings
            ranks = e.pipeline_parallel_size * d.data_parallel_size
            template = Pod(-1, d.name, -1, r.gpu.name, e.tensor_parallel_size, ranks, d.priority, d.across_nodes)
            if self.supply is not None:
                self.supply.check(template)
            weights = d.pod.weights_bytes
            if weights is None:
                weights = r.settings.capacity.weight_bytes * r.gpus
            reclaim = d.reclaim if self._scenario.prices.spot else None
            terms = PodTerms(d.name, part, template, d.pod, float(weights), reclaim)
            world = PodWorld(self.course, self.supply, numbers, named_rng(root, f"reclaim {d.name}"))
            news = PodNews(partial(self._opened, first), self._noticed, self.note, self._give_way)
            pods = Pods(terms, world, news)
            self.pods.append(pods)
            kinds = {k for k, pods_of in self.gateway.serves.items() if np.isin(first, pods_of)}
            held = partial(self._held, kinds)
            self.scaling.append(
                Scaling(d.metrics, make_autoscaler(d.autoscaler), pods, part, self.course, held)
                if d.autoscaler.kind != "none"
                else None
            )

    def run(self) -> float | None:
        """To the end; after Ctrl-C the simulated time [s] reached."""
        self.gateway.accepting[:] = False
        for i in sorted(range(len(self.pods)), key=lambda i: -self._scenario.deployments[i].priority):
            d = self._scenario.deployments[i]
            self.pods[i].begin(d.replicas)
            scaling = self.scaling[i]
            if scaling is not None:
                scaling.start()
            if d.rollout is not None:
                self.course.at(d.rollout.at_s, self.pods[i].roll, d.rollout, d.rollout.at_s)
        if self.supply is not None:
            self.supply.start()
        stopped_at = self.course.run()
        if stopped_at is None:
            self._give_up()
        for pods in self.pods:
            pods.lives.close()
        return stopped_at

    def _give_up(self) -> None:
        """Requests that nobody can serve any more, because no pod ever comes, have failed."""
        for row in self.network.unfinished() if self.network else sorted(self.gateway.inside):
            self.course.state[row], self.course.end_s[row] = int(State.FAILED), self.course.now

    # ---- what stands behind the LLM's stage ---------------------------------------------------------------

    def send(self, row: int, now: float) -> None:
        held = self.gateway.arrive(row, now)
        if held and self._timeout_s < inf and self.network is None:
            self.course.at(now + self._timeout_s, self._too_late, row, now + self._timeout_s)

    def _too_late(self, row: int, now: float) -> None:
        if row in self.gateway.inside:
            self.gateway.give_up(row)
            self.course.lose(row, now, State.TIMED_OUT)

    def drop(self, row: int, now: float) -> None:
        if row in self.gateway.inside:
            self.gateway.give_up(row)
            return
        for part in self._fleets.parts:
            part.cancel(row, now)
            self._noticed(part, now)

    def again(self, row: int) -> None:
        for part in self._fleets.parts:
            part.renew(row)

    def _answered(self, row: int, now: float, state: State) -> None:
        self.gateway.ended(row)
        if self.network is not None:
            self.network.answered(row, now, state)
        else:
            self.course.finish(row, now, state)
        self.gateway.release(now)

    def _lost(self, row: int, now: float, state: State) -> None:
        if self.network is not None:
            self.network.answered(row, now, state)
        else:
            self.course.lose(row, now, state)

    def _held(self, kinds: set[int]) -> int:
        """Requests that wait at the gateway, of some traffic classes or (none given) of all."""
        return sum(self.gateway.waiting(k) for k in kinds) if kinds else self.gateway.waiting()

    def _sent(self, pod: int) -> None:
        for i, scaling in enumerate(self.scaling):
            if scaling is not None and self._fleets.first[i] <= pod < self._fleets.first[i + 1]:
                scaling.sent[pod - self._fleets.first[i]] += 1

    # ---- pods that come and go ----------------------------------------------------------------------------

    def note(self, now: float, kind: str, deployment: str, replica: int, detail: str) -> None:
        self.events.append((now, kind, self._names.get(deployment, -1), replica, detail))

    def _opened(self, first: int, slot: int, accepting: bool, now: float) -> None:
        self.gateway.accepting[first + slot] = accepting
        self.gateway.changed(now)
        if self.network is not None:
            self.network.resize(int(self.gateway.accepting.sum()), now)

    def _noticed(self, part: Replicas, now: float) -> None:
        for row, state in part.noticed():
            self._answered(row, now, state)

    def _taken_back(self, pod: Pod, now: float, notice_s: float) -> None:
        self.pods[self._names[pod.deployment]].take_back(pod, now, notice_s)

    def _give_way(self, pod: Pod, now: float) -> None:
        self.pods[self._names[pod.deployment]].evict(pod, now)


def _serves(scenario: Scenario, fleets: Fleets, table: RequestTable) -> dict[int, np.ndarray]:
    """By traffic class the pods that serve it; empty where all serve everything."""
    if not any(d.traffic_classes for d in scenario.deployments):
        return {}
    for i, d in enumerate(scenario.deployments):
        for name in d.traffic_classes:
            if name not in table.classes:
                raise ServelabError(
                    f"deployments.{i}.traffic_classes: the workload has no class "
                    f"{name!r}{nearest(name, table.classes)}; it has {', '.join(map(repr, table.classes))}"
                )
    serves = {}
    for kind, name in enumerate(table.classes):
        chosen = [i for i, d in enumerate(scenario.deployments) if not d.traffic_classes or name in d.traffic_classes]
        if not chosen:
            raise ServelabError(f"no deployment serves the traffic class {name!r}: add it to a traffic_classes")
        serves[kind] = np.concatenate([np.arange(fleets.first[i], fleets.first[i + 1]) for i in chosen])
    return serves
