"""What a policy of admission is."""

from typing import Protocol

from simulator.cluster.view import View


class Admission(Protocol):
    """A policy of admission."""

    def admits(self, row: int, view: View, waiting: int) -> bool:
        """Whether request ``row`` is taken, with ``waiting`` requests held at the gateway. ``view.ready`` may be
        empty."""

    def ended(self, row: int) -> None:
        """Request ``row``, which was taken, has ended."""
