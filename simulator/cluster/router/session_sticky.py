"""When turns of a session share a prefix and the router knows sessions only: all of its requests to one pod."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import RouterPart, first_least
from simulator.cluster.view import View


class SessionStickyConfig(RouterPart):
    kind: Literal["session_sticky"] = "session_sticky"


class SessionSticky:
    """A session stays where its first request went, the pod with the fewest outstanding then, as long as that is ready.

    Requests without a session go to the pod with the fewest outstanding.
    """

    def __init__(self, config: SessionStickyConfig, pods: int, rng: np.random.Generator) -> None:
        self._pod: dict[int, int] = {}

    def choose(self, row: int, view: View) -> int:
        session = int(view.table.session[row])
        pod = self._pod.get(session, -1)
        at = int(np.searchsorted(view.ready, pod)) if pod >= 0 else len(view.ready)
        if at == len(view.ready) or view.ready[at] != pod:
            pod = first_least(view.outstanding, view.ready)
            if session >= 0:
                self._pod[session] = pod
        return pod
