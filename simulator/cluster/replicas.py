"""The replicas of one deployment: a fleet in compiled state, with its logs and its tables."""

from collections.abc import Iterator

import numpy as np

from simulator import records
from simulator.engine import front, loop
from simulator.engine.arrays import handle
from simulator.engine.state import STEP, WINDOW, Fleet
from simulator.engine.state import records as structured
from simulator.engine.uncached import StepSeconds, python_handle, python_loop
from simulator.records import State

BATCHES_PER_CALL = 50_000  # about 0.1 s of computing, so that progress, Ctrl-C and cancelling work
COMPLETED = int(State.COMPLETED)


class Replicas:
    """Identical replicas that serve rows of one request table.

    A simulation that routes request by request calls ``advance`` and ``push``; one whose requests' replicas are
    known beforehand calls ``expect`` once and then only ``advance``. Both give the same records.
    """

    def __init__(self, fleet: Fleet, step_seconds: StepSeconds | None = None) -> None:
        self.fleet = fleet
        self.handle = handle(fleet)
        # a live view: requests taken and not ended, per replica
        self.outstanding = fleet.replica["unfinished"]
        plain = fleet.requests.view(np.ndarray)  # a record array is slow to reach into
        self._state, self._arrival, self._deadline = plain["state"], plain["arrival"], plain["deadline"]
        self._steps: list[np.ndarray] = []
        self._over: list[np.ndarray] = []
        self._gaps: list[np.ndarray] = []
        self.python_loop = python_loop(step_seconds) if step_seconds else None

    def __len__(self) -> int:
        return len(self.fleet.replica)

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
            longer = structured((len(self), width), WINDOW)
            longer[:, : self.fleet.window.shape[1]] = self.fleet.window
            self._replace(window=longer)

    def _call(self, until: float) -> int:
        """One call of the loop; returns why it came back."""
        if self.python_loop is None:
            code = loop.advance(self.handle, until, BATCHES_PER_CALL)
        else:
            code = self.python_loop["advance"](
                python_handle(self.fleet, self.handle), until, BATCHES_PER_CALL
            )
        self.heed(code)
        return code

    def heed(self, code: int) -> None:
        """Do what a loop that came back with ``code`` asks for: room in the logs. Raises RuntimeError where it is stuck."""
        if code == loop.STUCK:
            raise RuntimeError(
                "the scheduler cannot plan any waiting request: a fault of the simulator, please report it"
            )
        if code == loop.FULL:
            self._make_room()

    def advance(self, until: float) -> None:
        """Commit all batches planned before ``until`` [s] and all outputs that are there at ``until``."""
        code = loop.CHUNK
        while code not in (loop.REACHED, loop.IDLE):
            code = self._call(until)

    def arrives(self, row: int, at: float, timeout_s: float) -> None:
        """Request ``row``, whose arrival was not known beforehand, arrives at ``at`` [s]."""
        self._arrival[row], self._deadline[row] = at, at + timeout_s

    def noticed(self) -> list[tuple[int, bool]]:
        """Watched requests that ended since the last call: row, and whether completed."""
        count = int(self.fleet.log[3])
        if not count:
            return []
        self.fleet.log[3] = 0
        rows = self.fleet.noticed[:count]
        done = (self._state[rows] == COMPLETED).tolist()
        return list(zip(rows.tolist(), done, strict=True))

    def push(self, row: int, replica: int) -> bool:
        """Request ``row`` arrives at ``replica`` now (the fleet stands at its arrival); False if rejected."""
        return bool(front.accept(self.handle, replica, row))

    def cancel(self, row: int, at: float) -> None:
        """The client of request ``row`` cancels it at ``at`` [s], where the fleet stands."""
        replica = int(self.fleet.requests["replica"][row])
        if replica >= 0:
            front.abandon(self.handle, replica, row, at, int(State.CANCELLED))

    def peek(self) -> float:
        """Earliest time [s] at which a replica changes by itself; inf when all are idle. Changes nothing."""
        return min(loop.peek(self.handle, j) for j in range(len(self)))

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
        for column, name in (("replica", "replica"), ("state", "state"), ("arrival_s", "arrival"),
                             ("engine_s", "ready"), ("scheduled_s", "scheduled"), ("first_token_s", "first"),
                             ("end_s", "end"), ("prompt_tokens", "prompt"), ("generated_tokens", "out"),
                             ("preemptions", "preempted")):  # fmt: skip
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
        return out

    def timeline(self, deployment: int) -> dict[str, np.ndarray]:
        """Columns of `records.TIMELINE`: the windows in which a batch ended."""
        w = self.fleet.window
        replica, window = np.nonzero(w["steps"])
        cells = w[replica, window]
        out = records.empty("timeline", len(cells))
        out["window_s"][:] = window * self.fleet.config[0].timeline
        out["deployment"][:] = deployment
        out["replica"][:] = replica
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
