"""The replicas of one deployment: a fleet in compiled state, with its logs and its tables."""

from collections.abc import Iterator

import numpy as np

from simulator.engine import front, loop, probe, routed
from simulator.engine.arrays import handle
from simulator.engine.state import RESERVED, STEP, WINDOW, Fleet
from simulator.engine.state import records as structured
from simulator.engine.uncached import StepSeconds, python_handle, python_loop
from simulator.records import tables as records
from simulator.records.tables import State

BATCHES_PER_CALL = 50_000  # about 0.1 s of computing, so that progress, Ctrl-C and cancelling work


class Replicas:
    """Identical replicas that serve rows of one request table.

    A simulation that routes request by request calls ``advance`` and ``push``; one whose requests' replicas are
    known beforehand calls ``expect`` once and then only ``advance``. Both give the same records.
    """

    def __init__(self, fleet: Fleet, step_seconds: StepSeconds | None = None, name: str = "", width: int = 1) -> None:
        self.fleet, self.name, self.width = fleet, name, width
        self.shared = bool(fleet.config[0].share > 1 or fleet.config[0].lockstep > 1)
        self.handle = handle(fleet)
        self._unfinished = fleet.replica["unfinished"].view(np.ndarray)
        self._by_pod = {
            name: fleet.replica[name].view(np.ndarray).reshape(-1, width)
            for name in ("unfinished", "started", "running", "queued_tokens", "unhashed", "cached", "reserved")
        }
        plain = fleet.requests.view(np.ndarray)  # a record array is slow to reach into
        self._state, self._arrival, self._deadline = plain["state"], plain["arrival"], plain["deadline"]
        self._steps: list[np.ndarray] = []
        self._over: list[np.ndarray] = []
        self._gaps: list[np.ndarray] = []
        self.python_loop = python_loop(step_seconds) if step_seconds else None

    def __len__(self) -> int:
        """Pods, each of ``width`` replicas."""
        return len(self.fleet.replica) // self.width

    def outstanding(self) -> np.ndarray:
        """Requests taken and not ended, of each pod; live where a pod is one replica."""
        return self._unfinished if self.width == 1 else self._by_pod["unfinished"].sum(axis=1)

    def signals(self) -> tuple[np.ndarray, ...]:
        """Of each pod: requests waiting and running, queued prompt tokens, share of KV blocks held."""
        c, config = self._by_pod, self.fleet.config[0]
        running = c["running"].sum(axis=1)
        total = (int(config.blocks) - 1) * self.width
        held = (
            c["reserved"].sum(axis=1)
            if config.batching == RESERVED
            else total - (c["unhashed"] + c["cached"]).sum(axis=1)
        )
        return c["started"].sum(axis=1) - running, running, c["queued_tokens"].sum(axis=1), held / total

    def cached_tokens(self, row: int, pods: np.ndarray) -> np.ndarray:
        """Prompt tokens of request ``row`` in the prefix cache of each of ``pods``."""
        out = np.zeros(len(pods), np.int64)
        probe.cached_tokens(self.handle, row, pods * self.width, self.width, out)
        return out

    def _replace(self, **arrays: np.ndarray) -> None:
        self.fleet = self.fleet._replace(**arrays)
        self.handle = handle(self.fleet)

    def _make_room(self) -> None:
        """Empty the logs and lengthen the timeline."""
        log = self.fleet.log
        self._steps.append(self.fleet.steps[: log[0]].copy())
        self._over.append(self.fleet.itl_over[: log[1]].copy())
        self._gaps.append(self.fleet.gaps[: log[2]].copy())
        log[:3] = 0
        ends = self.fleet.batch["end"].max()
        if ends >= self.fleet.config[0].timeline * self.fleet.window.shape[1]:
            width = max(2 * self.fleet.window.shape[1], int(ends / self.fleet.config[0].timeline) + 2)
            longer = structured((len(self.fleet.replica), width), WINDOW)
            longer[:, : self.fleet.window.shape[1]] = self.fleet.window
            self._replace(window=longer)

    def _call(self, until: float) -> int:
        """One call of the loop; returns why it came back."""
        if self.python_loop is None:
            code = loop.advance(self.handle, until, BATCHES_PER_CALL)
        else:
            code = self.python_loop["advance"](python_handle(self.fleet, self.handle), until, BATCHES_PER_CALL)
        self.heed(code)
        return code

    def heed(self, code: int) -> None:
        """Do what a loop that came back with ``code`` asks for: room in the logs. Raises RuntimeError where it is
        stuck."""
        if code == loop.STUCK:
            raise RuntimeError(
                "the scheduler cannot plan any waiting request: a fault of the simulator, please report it"
            )
        if code == loop.FULL:
            self._make_room()

    def route(self, first: int, last: int) -> None:
        """Requests ``first`` to ``last`` (excluded) arrive in turn, each at the replica with the fewest."""
        while first < last:
            first, code = routed.least_outstanding(self.handle, first, last, BATCHES_PER_CALL)
            self.heed(code)

    def advance(self, until: float) -> None:
        """Commit all batches planned before ``until`` [s] and all outputs that are there at ``until``."""
        code = loop.CHUNK
        while code not in (loop.REACHED, loop.IDLE):
            code = self._call(until)

    def arrives(self, row: int, at: float, deadline_s: float) -> None:
        """Request ``row``, whose arrival was not known beforehand, arrives at ``at``; its client waits to
        ``deadline_s`` [s]."""
        self._arrival[row], self._deadline[row] = at, deadline_s

    def noticed(self) -> list[tuple[int, State]]:
        """Watched requests that ended since the last call: row and state."""
        count = int(self.fleet.log[3])
        if not count:
            return []
        self.fleet.log[3] = 0
        rows = self.fleet.noticed[:count]
        return [(row, State(state)) for row, state in zip(rows.tolist(), self._state[rows].tolist(), strict=True)]

    def push(self, row: int, pod: int) -> bool:
        """Request ``row`` arrives at ``pod`` now (the fleet stands at its arrival); False if rejected.

        Within a pod of several replicas it goes to the one with the least ``4 x waiting + running``, vLLM's own rule.
        """
        replica = pod
        if self.width > 1:
            running = self._by_pod["running"][pod]
            replica = pod * self.width + int((4 * self._by_pod["started"][pod] - 3 * running).argmin())
        return bool(front.accept(self.handle, replica, row))

    def kill(self, pod: int, at: float, state: int) -> list[int]:
        """End all requests of ``pod`` in ``state`` at ``at`` [s], where the fleet stands; returns their rows."""
        q = self.fleet.requests.view(np.ndarray)
        rows = np.flatnonzero((q["replica"] // self.width == pod) & (q["replica"] >= 0) & (q["state"] == 0))
        for row in rows.tolist():
            front.abandon(self.handle, int(q["replica"][row]), row, at, state)
        return rows.tolist()

    def renew(self, row: int) -> None:
        """Request ``row``, which a pod has lost or rejected, may be sent again."""
        q = self.fleet.requests[row]
        q.state, q.status, q.end, q.replica, q.out = 0, 0, np.nan, -1, 0
        q.ready = q.scheduled = q.first = q.last = np.nan
        q.stale = q.extra = q.slot = q.next = q.prev = q.follow = q.abort_next = q.cached = -1
        q.in_prefill = q.preempted = 0

    def forget(self, pod: int) -> None:
        """Pod ``pod``, which holds no request, loses its prefix cache."""
        for j in range(pod * self.width, (pod + 1) * self.width):
            front.drop_abandoned(self.handle, j)
            probe.forget(self.handle, j)

    def cancel(self, row: int, at: float) -> None:
        """The client of request ``row`` cancels it at ``at`` [s], where the fleet stands."""
        replica = int(self.fleet.requests["replica"][row])
        if replica >= 0:
            front.abandon(self.handle, replica, row, at, int(State.CANCELLED))

    def peek(self) -> float:
        """Earliest time [s] at which a replica changes by itself; inf when all are idle. Changes nothing."""
        return min(loop.peek(self.handle, j) for j in range(len(self.fleet.replica)))

    def expect(self, replica_of: np.ndarray) -> None:
        """All requests whose replica is known beforehand: row i goes to ``replica_of[i]``, -1: not here."""
        order = np.argsort(replica_of, kind="stable").astype(np.int32)
        bounds = np.searchsorted(replica_of[order], np.arange(len(self) + 1))
        self._replace(future=order)
        self.fleet.replica["future"] = bounds[:-1]
        self.fleet.replica["future_end"] = bounds[1:]

    def drain(self) -> Iterator[None]:
        """Run until all replicas are idle; yields now and then."""
        while self.peek() < np.inf:
            self._call(np.inf)
            yield

    # ---- tables -------------------------------------------------------------------------------------------

    def requests(self, deployment: int) -> dict[str, np.ndarray]:
        """Columns of `records.REQUESTS` for the requests of this table."""
        q = self.fleet.requests
        out = records.empty("requests", len(q))
        out["request_id"][:] = np.arange(len(q))
        out["deployment"][:] = np.where(q["replica"] >= 0, deployment, -1)
        out["replica"][:] = q["replica"] // self.width
        for column, name in (
            ("state", "state"),
            ("arrival_s", "arrival"),
            ("llm_arrival_s", "arrival"),
            ("engine_s", "ready"),
            ("scheduled_s", "scheduled"),
            ("first_token_s", "first"),
            ("llm_first_token_s", "first"),
            ("llm_end_s", "end"),
            ("end_s", "end"),
            ("prompt_tokens", "prompt"),
            ("generated_tokens", "out"),
            ("preemptions", "preempted"),
        ):
            out[column][:] = q[name]
        gone_early = out["end_s"] < out["engine_s"]  # gave up before the API server was done with it
        out["engine_s"][gone_early] = np.nan
        out["cached_tokens"][:] = np.maximum(q["cached"], 0)
        return out

    def steps(self, deployment: int) -> dict[str, np.ndarray]:
        """Columns of `records.STEPS` for the sampled batches, by replica and number.

        They are logged in the order in which the computing went, which is nobody's business.
        """
        rows = np.concatenate([*self._steps, self.fleet.steps[: self.fleet.log[0]]])
        rows = rows[np.lexsort((rows["step"], rows["replica"]))]
        out = records.empty("steps", len(rows))
        for name in STEP.names or ():
            out[name][:] = rows[name]
        out["deployment"][:] = deployment
        out["replica"] //= self.width
        return out

    def timeline(self, deployment: int) -> dict[str, np.ndarray]:
        """Columns of `records.TIMELINE`: the windows in which a batch ended."""
        w = self.fleet.window
        replica, window = np.nonzero(w["steps"])
        cells = w[replica, window]
        out = records.empty("timeline", len(cells))
        out["window_s"][:] = window * self.fleet.config[0].timeline
        out["deployment"][:] = deployment
        out["replica"][:] = replica // self.width
        out["busy_s"][:] = cells["busy"]
        for name in ("steps", "prefill_tokens", "decode_tokens", "preempted"):
            out[name][:] = cells[name]
        for column, name in (("running_mean", "running"), ("waiting_mean", "waiting"), ("kv_mean", "kv")):
            out[column][:] = cells[name] / cells["steps"]
        return out

    def interruptions(self) -> dict[str, np.ndarray]:
        """Columns of `records.INTERRUPTIONS`."""
        rows = np.concatenate([*self._gaps, self.fleet.gaps[: self.fleet.log[2]]])
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        return {"request_id": rows[:, 0].astype("i8"), "from_s": rows[:, 1], "to_s": rows[:, 2]}

    def itl(self) -> tuple[np.ndarray, np.ndarray]:
        """Inter-token latencies: value [us] and count."""
        over = np.concatenate([*self._over, self.fleet.itl_over[: self.fleet.log[1]]])
        low = np.flatnonzero(self.fleet.itl)
        high, at = np.unique(over[:, 0], return_inverse=True)
        counts = np.bincount(at, weights=over[:, 1], minlength=len(high)).astype(np.int64)
        return np.concatenate([low, high]), np.concatenate([self.fleet.itl[low], counts])
