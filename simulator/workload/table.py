"""RequestTable: the one table that every workload becomes."""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import pandas as pd

from simulator.errors import ServelabError, nearest

DTYPES = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "max_tokens": np.int32,
    "priority": np.int32,
}
REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
PREFIX = "prefix_segments"
INT32_MAX = int(np.iinfo(np.int32).max)


@dataclass(frozen=True, eq=False)
class RequestTable:
    """Requests in order of arrival; the row number is the request id.

    arrival_s       when the client sends it [s since the start of the workload]
    prompt_tokens   length of the whole prompt, shared prefix included [token]
    output_tokens   true length of the answer [token]; no policy may read it before it is generated
    max_tokens      limit the client asked for [token], at least output_tokens
    priority        lower is served first under ``scheduling_policy=priority``

    Shared prefixes (CSR): segments ``segment_start[i]:segment_start[i+1]`` are the beginning of prompt i.
    Token k of a segment is ``(segment_stream, k)``: prompts whose leading segments agree share those tokens.
    The rest of a prompt and all output tokens belong to that row alone.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    max_tokens: np.ndarray
    priority: np.ndarray
    segment_start: np.ndarray
    segment_stream: np.ndarray
    segment_tokens: np.ndarray

    @classmethod
    def from_columns(
        cls,
        arrival_s: np.ndarray,
        prompt_tokens: np.ndarray,
        output_tokens: np.ndarray,
        max_tokens: np.ndarray | None = None,
        priority: np.ndarray | None = None,
        segment_start: np.ndarray | None = None,
        segment_stream: np.ndarray | None = None,
        segment_tokens: np.ndarray | None = None,
    ) -> "RequestTable":
        """Build and check a table; ``max_tokens`` defaults to the true length, ``priority`` to 0.

        Raises ServelabError as `check` does.
        """
        n = len(arrival_s)
        out = cls(
            arrival_s=np.ascontiguousarray(arrival_s, np.float64),
            prompt_tokens=_i4("prompt_tokens", prompt_tokens),
            output_tokens=_i4("output_tokens", output_tokens),
            max_tokens=_i4("max_tokens", output_tokens if max_tokens is None else max_tokens),
            priority=_i4("priority", np.zeros(n, np.int32) if priority is None else priority),
            segment_start=np.ascontiguousarray(
                np.zeros(n + 1, np.int64) if segment_start is None else segment_start, np.int64
            ),
            segment_stream=np.ascontiguousarray([] if segment_stream is None else segment_stream, np.int64),
            segment_tokens=_i4("segment_tokens", [] if segment_tokens is None else segment_tokens),
        )
        out.check()
        return out

    def __len__(self) -> int:
        return len(self.arrival_s)

    def slice(self, start: int, stop: int) -> "RequestTable":
        """Rows ``start`` to ``stop`` (excluded), as views; arrival times stay as they are."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        lo, hi = int(self.segment_start[start]), int(self.segment_start[stop])
        rows = {name: getattr(self, name)[start:stop] for name in DTYPES}
        return RequestTable(
            **rows,
            segment_start=self.segment_start[start : stop + 1] - lo,
            segment_stream=self.segment_stream[lo:hi],
            segment_tokens=self.segment_tokens[lo:hi],
        )

    def check(self) -> None:
        """Raise ServelabError naming the request (its row, from 0), column, value and limit of what is wrong."""
        n = len(self)
        for f in fields(self):
            column = getattr(self, f.name)
            rows = n + 1 if f.name == "segment_start" else n if f.name in DTYPES else len(self.segment_stream)
            if column.shape != (rows,):
                raise ServelabError(f"{f.name} has shape {column.shape}, expected ({rows},)")

        def refuse(column: str, bad: np.ndarray, limit: str) -> None:
            if bad.any():
                row = int(np.argmax(bad))
                value = getattr(self, column)[row].item()
                raise ServelabError(f"request {row}: {column} must be {limit}, got {value}")

        refuse("arrival_s", ~np.isfinite(self.arrival_s), "a finite number of seconds")
        refuse("arrival_s", self.arrival_s < 0, "at least 0 s")
        late = np.flatnonzero(np.diff(self.arrival_s) < 0)
        if late.size:
            row = int(late[0]) + 1
            before, this = self.arrival_s[row - 1], self.arrival_s[row]
            raise ServelabError(
                f"request {row}: out of order, arrival_s {this:.6f} s comes before the {before:.6f} s "
                f"of the request before; sort by arrival"
            )
        refuse("prompt_tokens", self.prompt_tokens < 1, "at least 1 token")
        refuse("output_tokens", self.output_tokens < 1, "at least 1 token")
        short = self.max_tokens < self.output_tokens
        if short.any():
            limit = f"at least output_tokens ({self.output_tokens[np.argmax(short)]})"
            refuse("max_tokens", short, limit)
        self._check_segments()

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
        """One row per request; shared prefixes as text ``stream:tokens;stream:tokens`` in a last column.

        The column ``prefix_segments`` is left out when no request shares a prefix.
        """
        frame = pd.DataFrame({name: getattr(self, name) for name in DTYPES})
        if len(self.segment_stream):
            one = [f"{s}:{t}" for s, t in zip(self.segment_stream, self.segment_tokens, strict=True)]
            ends = self.segment_start.tolist()
            frame[PREFIX] = [";".join(one[a:b]) for a, b in pairwise(ends)]
        return frame

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "RequestTable":
        """The table that `to_frame` wrote; arrival_s, prompt_tokens and output_tokens are required.

        Raises ServelabError for a missing or unknown column and for what `check` refuses.
        """
        known = (*DTYPES, PREFIX)
        for name in REQUIRED:
            if name not in frame.columns:
                raise ServelabError(f"no column {name!r}{nearest(name, map(str, frame.columns))}")
        for name in frame.columns:
            if name not in known:
                raise ServelabError(f"unknown column {name!r}{nearest(str(name), known)}")
        columns = {name: frame[name].to_numpy() for name in DTYPES if name in frame}
        if PREFIX in frame:
            columns |= _parse_segments(frame[PREFIX])
        return cls.from_columns(**columns)


def _i4(name: str, values: object) -> np.ndarray:
    """As int32, refusing what would not survive the conversion."""
    raw = np.asarray(values)
    if raw.size and (raw.dtype.kind not in "iuf" or raw.dtype == bool):
        raise ServelabError(f"{name} must be whole numbers, got dtype {raw.dtype}")
    if raw.size and raw.dtype != np.int32:
        bad = ~((raw >= -INT32_MAX) & (raw <= INT32_MAX))
        if raw.dtype.kind == "f":
            bad |= raw != np.floor(raw)
        if bad.any():
            row = int(np.argmax(bad))
            raise ServelabError(
                f"request {row}: {name} must be a whole number of 32 bits, got {raw[row].item()}"
            )
    return np.ascontiguousarray(raw, np.int32)


def _parse_segments(column: pd.Series) -> dict[str, np.ndarray]:
    text = column.fillna("").astype(str).tolist()
    counts, streams, tokens = np.zeros(len(text), np.int64), [], []
    for row, cell in enumerate(text):
        parts = cell.split(";") if cell else []
        counts[row] = len(parts)
        for part in parts:
            stream, colon, size = part.partition(":")
            if not (colon and stream.isdecimal() and size.isdecimal()):
                raise ServelabError(
                    f"request {row}: {PREFIX} must look like '3:512;7:64' (stream:tokens), got {cell!r}"
                )
            streams.append(int(stream))
            tokens.append(int(size))
    start = np.concatenate(([0], np.cumsum(counts)))
    return {
        "segment_start": start,
        "segment_stream": np.array(streams, np.int64),
        "segment_tokens": np.array(tokens, np.int64),
    }
