"""RequestTable: the one table that every workload becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.workload.columns import COLUMNS, FREED, NONE, OWN_STREAM
from simulator.workload.frame import columns_of, to_frame


@dataclass(frozen=True, eq=False)
class RequestTable:
    """Requests; the row number is the request id.

    arrival_s       when the client sends it [s since the start of the workload]; NaN: see ``after``
    prompt_tokens   length of the whole prompt, shared prefix included [token]
    output_tokens   true length of the answer [token]; no policy may read it before it is generated
    max_tokens      limit the client asked for [token], at least output_tokens
    priority        lower is served first under ``scheduling_policy=priority``
    traffic_class, tenant   places in ``classes`` and ``tenants``, the names
    session         requests of one conversation or agent have the same number; -1: none
    after           -1: sent at ``arrival_s``, rising from row to row. A row: sent ``wait_s`` [s] after that
                    one, an earlier row, has completed; never sent if that one does not complete.
                    -2: the next of its ``pool`` in order of rows, sent ``wait_s`` after a request of the pool
                    ended, in whatever state, that no row comes after: a closed loop
    until_s         not sent at or after this time [s]

    Shared prefixes (CSR): segments ``segment_start[i]:segment_start[i+1]`` are the beginning of prompt i.
    Token k of a segment is ``(segment_stream, k)``: prompts whose leading segments agree share those tokens.
    The rest of prompt i and its output tokens are stream ``OWN_STREAM + i``, which later turns may name.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    max_tokens: np.ndarray
    priority: np.ndarray
    traffic_class: np.ndarray
    tenant: np.ndarray
    session: np.ndarray
    after: np.ndarray
    wait_s: np.ndarray
    pool: np.ndarray
    until_s: np.ndarray
    segment_start: np.ndarray
    segment_stream: np.ndarray
    segment_tokens: np.ndarray
    classes: tuple[str, ...] = ("",)
    tenants: tuple[str, ...] = ("",)

    @classmethod
    def from_columns(
        cls,
        arrival_s: Any,
        prompt_tokens: Any,
        output_tokens: Any,
        max_tokens: Any = None,
        priority: Any = None,
        segment_start: Any = None,
        segment_stream: Any = None,
        segment_tokens: Any = None,
        classes: Sequence[str] = ("",),
        tenants: Sequence[str] = ("",),
        **others: Any,
    ) -> "RequestTable":
        """Build and check a table; ``max_tokens`` defaults to the true length, ``priority`` to 0.

        ``others`` are further `COLUMNS`. Raises ServelabError as `check` does.
        """
        n = len(arrival_s)
        given = {
            **others,
            "arrival_s": arrival_s,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            "max_tokens": output_tokens if max_tokens is None else max_tokens,
            "priority": np.zeros(n, np.int32) if priority is None else priority,
        }
        columns: dict[str, Any] = {}
        for name, (dtype, default) in COLUMNS.items():
            if given.get(name) is None:
                columns[name] = np.broadcast_to(np.array(default, dtype), n)  # takes no room
            elif dtype is np.float64:
                columns[name] = np.ascontiguousarray(given[name], dtype)
            else:
                columns[name] = _whole(name, given[name], dtype)
        out = cls(
            **columns,
            segment_start=np.ascontiguousarray(
                np.zeros(n + 1, np.int64) if segment_start is None else segment_start, np.int64
            ),
            segment_stream=np.ascontiguousarray([] if segment_stream is None else segment_stream, np.int64),
            segment_tokens=_whole("segment_tokens", [] if segment_tokens is None else segment_tokens),
            classes=tuple(classes),
            tenants=tuple(tenants),
        )
        out.check()
        return out

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def reacts(self) -> bool:
        """Whether what is sent depends on what happens: sessions, agents, closed loops, a time to stop."""
        return bool((self.after != NONE).any() or (self.until_s < np.inf).any())

    @property
    def names_own_streams(self) -> bool:
        """Whether some prompt repeats what belongs to one other request, as the turns of a session do."""
        return bool((self.segment_stream >= OWN_STREAM).any())

    def slice(self, start: int, stop: int) -> "RequestTable":
        """Rows ``start`` to ``stop`` (excluded), as views; arrival times stay as they are.

        Raises ServelabError where rows depend on each other, unless it is the whole table.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        if (start, stop) != (0, len(self)):
            self.refuse_parts()
        lo, hi = int(self.segment_start[start]), int(self.segment_start[stop])
        rows = {name: getattr(self, name)[start:stop] for name in COLUMNS}
        return RequestTable(
            **rows,
            segment_start=self.segment_start[start : stop + 1] - lo,
            segment_stream=self.segment_stream[lo:hi],
            segment_tokens=self.segment_tokens[lo:hi],
            classes=self.classes,
            tenants=self.tenants,
        )

    def refuse_parts(self) -> None:
        """Raise ServelabError when a part of the rows makes no sense without the others."""
        if self.reacts or self.names_own_streams:
            raise ServelabError(
                "the requests depend on each other (sessions, agents or a closed loop), so no part of them can be "
                "taken, drawn or moved in time; change the workload that made them instead"
            )

    def check(self) -> None:
        """Raise ServelabError naming the request (its row, from 0), column, value and limit of what is wrong."""
        n = len(self)
        for name in (*COLUMNS, "segment_start", "segment_stream", "segment_tokens"):
            column = getattr(self, name)
            rows = n + 1 if name == "segment_start" else n if name in COLUMNS else len(self.segment_stream)
            if column.shape != (rows,):
                raise ServelabError(f"{name} has shape {column.shape}, expected ({rows},)")

        free = self.after == NONE
        self._refuse("arrival_s", free & ~np.isfinite(self.arrival_s), "a finite number of seconds")
        self._refuse("arrival_s", free & (self.arrival_s < 0), "at least 0 s")
        self._check_order(free)
        self._refuse("prompt_tokens", self.prompt_tokens < 1, "at least 1 token")
        self._refuse("output_tokens", self.output_tokens < 1, "at least 1 token")
        short = self.max_tokens < self.output_tokens
        if short.any():
            limit = f"at least output_tokens ({self.output_tokens[np.argmax(short)]})"
            self._refuse("max_tokens", short, limit)
        for column, names in (("traffic_class", self.classes), ("tenant", self.tenants)):
            place = getattr(self, column)
            self._refuse(column, (place < 0) | (place >= len(names)), f"from 0 to {len(names) - 1}")
        if not free.all():
            self._refuse("arrival_s", ~free & np.isfinite(self.arrival_s), "empty (NaN) with after")
            self._refuse(
                "after",
                ~free & (self.after != FREED) & ((self.after < 0) | (self.after >= np.arange(n))),
                "-1, -2 or an earlier row",
            )
            self._refuse("pool", (self.after == FREED) & (self.pool < 0), "at least 0 with after -2")
            self._refuse("wait_s", ~((self.wait_s >= 0) & np.isfinite(self.wait_s)), "at least 0 s")
        self._refuse("until_s", ~(self.until_s >= 0), "at least 0 s")
        self._check_segments()

    def _refuse(self, column: str, bad: np.ndarray, limit: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = getattr(self, column)[row].item()
            raise ServelabError(f"request {row}: {column} must be {limit}, got {value}")

    def _check_order(self, free: np.ndarray) -> None:
        rows = np.flatnonzero(free)
        times = self.arrival_s if len(rows) == len(self) else self.arrival_s[rows]
        late = np.flatnonzero(np.diff(times) < 0)
        if late.size:
            k = int(late[0]) + 1
            raise ServelabError(
                f"request {rows[k]}: out of order, arrival_s {times[k]:.6f} s comes before the "
                f"{times[k - 1]:.6f} s of the request before; sort by arrival"
            )

    def _check_segments(self) -> None:
        start, m = self.segment_start, len(self.segment_stream)
        if start[0] != 0 or start[-1] != m or (np.diff(start) < 0).any():
            raise ServelabError(f"segment_start must rise from 0 to {m} (the number of segments)")
        if not m:
            return
        owner = np.repeat(np.arange(len(self)), np.diff(start))
        for name, column, least in (
            ("segment_stream", self.segment_stream, 0),
            ("segment_tokens", self.segment_tokens, 1),
        ):
            bad = np.flatnonzero(column < least)
            if bad.size:
                row = int(owner[bad[0]])
                raise ServelabError(f"request {row}: {name} must be at least {least}, got {column[bad[0]]}")
        total = np.bincount(owner, self.segment_tokens, minlength=len(self))
        bad = np.flatnonzero(total > self.prompt_tokens)
        if bad.size:
            row = int(bad[0])
            raise ServelabError(
                f"request {row}: segment_tokens add up to {int(total[row])}, more than "
                f"prompt_tokens ({self.prompt_tokens[row]})"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row per request: see `simulator.workload.frame`."""
        return to_frame(self)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "RequestTable":
        """The table that `to_frame` wrote; arrival_s, prompt_tokens and output_tokens are required.

        Raises ServelabError for a missing or unknown column and for what `check` refuses.
        """
        return cls.from_columns(**columns_of(frame))


def _whole(name: str, values: object, dtype: type = np.int32) -> np.ndarray:
    """As whole numbers of ``dtype``, refusing what would not survive the conversion."""
    raw, limit = np.asarray(values), int(np.iinfo(dtype).max)
    if raw.size and (raw.dtype.kind not in "iuf" or raw.dtype == bool):
        raise ServelabError(f"{name} must be whole numbers, got dtype {raw.dtype}")
    if raw.size and raw.dtype != dtype:
        bad = ~((raw >= -limit) & (raw <= limit))
        if raw.dtype.kind == "f":
            bad |= raw != np.floor(raw)
        if bad.any():
            row = int(np.argmax(bad))
            bits = np.iinfo(dtype).bits
            raise ServelabError(f"request {row}: {name} must be a whole number of {bits} bits, got {raw[row].item()}")
    return np.ascontiguousarray(raw, dtype)
