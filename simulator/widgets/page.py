"""What the parts of the explorer share: the draft, the outcomes, and how a fault is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as w

from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.background import Job
from simulator.explorer.draft import Draft, State
from simulator.explorer.form import Field, Keys
from simulator.explorer.work import Outcome, Work
from simulator.scenario import Scenario


class Page(w.VBox):
    """The parts (`toolbar`, `form`, `jobs`, `outcomes`) are classes over this one; `explorer.Explorer` is all of
    them."""

    draft: Draft
    job: Job | None
    outcome: Outcome | None  # the last one
    run: Outcome | None  # the last simulation
    search: Outcome | None  # the last capacity or plan
    pinned: Outcome | None
    _work: Work
    _dark: bool
    _syncing: bool
    _editors: dict[Keys, tuple[Field, w.Widget]]
    _card: w.HTML
    _fault: w.HTML
    _seed: w.BoundedIntText
    _area: w.Textarea | None
    _area_text: str

    def _button(self, text: str, icon: str, tip: str, call: Callable[[], Any], style: str = "") -> w.Button:
        made = w.Button(description=text, icon=icon, tooltip=tip, button_style=style, layout=w.Layout(width="auto"))
        made.on_click(lambda _: self._guarded(call))
        return made

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """What ``call`` gives, None after a fault, which is said on the page."""
        try:
            return call()
        except ServelabError as problem:
            self._fault.value = cards.say(str(problem), cards.BAD)
        except Exception as fault:  # noqa: BLE001 (a fault of ours: said, where the kernel would only log it)
            self._fault.value = cards.say(f"{type(fault).__name__}: {fault}", cards.BAD)
        return None

    # ---- what one part asks of another ------------------------------------------------------------------------

    @property
    def scenario(self) -> Scenario:
        raise NotImplementedError

    @property
    def seed(self) -> int:
        raise NotImplementedError

    @seed.setter
    def seed(self, value: int) -> None:
        raise NotImplementedError

    def to_text(self) -> str:
        raise NotImplementedError

    def load(self, text: str, base_dir: Path | None = None) -> None:
        raise NotImplementedError

    def _take(self, state: State, folder: Path) -> None:
        raise NotImplementedError

    def _rebuild(self) -> None:
        raise NotImplementedError

    def _changed(self) -> None:
        raise NotImplementedError

    def _history(self, step: Callable[[], None]) -> None:
        raise NotImplementedError

    def _show_outcome(self) -> None:
        raise NotImplementedError
