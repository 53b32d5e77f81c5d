"""Work off the kernel's main thread: progress, remaining time, cancel."""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from simulator.errors import ServelabError

Status = Literal["running", "done", "cancelled", "failed"]


@dataclass(frozen=True)
class Progress:
    """``fraction`` done, None where it is not known; ``remaining_s`` [s] likewise; ``text`` what goes on."""

    fraction: float | None
    elapsed_s: float
    remaining_s: float | None
    text: str = ""


class Job:
    """One call in a thread.

    ``work(report)`` must call ``report(done, all, text)`` now and then: that is where it is stopped. On a cancel
    ``report`` raises KeyboardInterrupt, as Ctrl-C would, so a simulation gives what it has reached.
    ``told(progress)`` and ``ended(job)`` are called in the thread; ``told`` also from another every ``tick_s`` [s]
    without a report.
    """

    def __init__(
        self,
        work: Callable[[Callable[[float, float, str], None]], Any],
        told: Callable[[Progress], None] = lambda progress: None,
        ended: Callable[["Job"], None] = lambda job: None,
        every_s: float = 0.1,
        tick_s: float = 1.0,
    ) -> None:
        self._work, self._told, self._ended, self._every_s = work, told, ended, every_s
        self._tick_s, self._lock, self._over = tick_s, threading.Lock(), threading.Event()
        self._done: tuple[float, float, str] = (0, 0, "working")
        self._stop = threading.Event()
        self._began = self._said = time.monotonic()
        self.status: Status = "running"
        self.result: Any = None
        self.problem = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="servelab job")

    def start(self) -> "Job":
        """Begin; returns at once."""
        self._thread.start()
        threading.Thread(target=self._tick, daemon=True, name="servelab clock").start()
        return self

    def cancel(self) -> None:
        """Have it stop at its next report."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False if it goes on after ``timeout_s`` [s]."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _report(self, done: float, all_: float, text: str = "") -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._done = (done, all_, text)
        if time.monotonic() - self._said >= self._every_s:
            self._say()

    def _say(self) -> None:
        with self._lock:
            if self._over.is_set():
                return
            done, all_, text = self._done
            self._said = time.monotonic()
            elapsed = self._said - self._began
            share = min(done / all_, 1.0) if all_ > 0 else None
            left = elapsed * (1 - share) / share if share else None
            self._told(Progress(share, elapsed, left, text))

    def _tick(self) -> None:
        """Time goes on where no report comes; after a cancel nothing is said."""
        while not self._over.wait(self._tick_s) and not self._stop.is_set():
            if time.monotonic() - self._said >= self._tick_s / 2:
                self._say()

    def _run(self) -> None:
        try:
            self.result = self._work(self._report)
            self.status = "cancelled" if self._stop.is_set() else "done"
        except KeyboardInterrupt:
            self.status = "cancelled"
        except ServelabError as problem:
            self.status, self.problem = "failed", str(problem)
        except Exception as fault:  # noqa: BLE001 (a fault of ours: said, not swallowed by the thread)
            self.status = "failed"
            self.problem = "".join(traceback.format_exception_only(fault)).strip()
        with self._lock:
            self._over.set()
        self._ended(self)
