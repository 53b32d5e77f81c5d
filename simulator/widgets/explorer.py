"""The explorer put together, and how to open it.

from simulator.widgets import explore
explore("examples/default.yaml")
"""

from pathlib import Path
from typing import Any

import ipywidgets as w

from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.background import Job
from simulator.explorer.draft import MOST_SEED, Draft, State, of_text, presets
from simulator.explorer.form import Field, Keys
from simulator.explorer.limits import FOR_OTHERS, Limits
from simulator.explorer.work import Outcome, Work
from simulator.planner.runs import Runs
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.widgets.boxes import full
from simulator.widgets.form import Form
from simulator.widgets.jobs import Jobs
from simulator.widgets.outcomes import Outcomes
from simulator.widgets.toolbar import Toolbar


def explore(
    scenario: Scenario | str | Path | None = None,
    seed: int = 0,
    dark: bool = False,
    for_others: bool = False,
    runs: Runs = Runs("serial"),
) -> "Explorer":
    """The explorer of a scenario, or of the default one; put it last in a cell.

    Args:
        scenario: a scenario, or the YAML file of one or of an explorer's state.
        seed: of all random draws.
        dark: whether charts are drawn for a dark page.
        for_others: whether the page is for visitors: scenarios may name no files of this machine then, and runs are
            bounded by `simulator.explorer.limits.FOR_OTHERS`.
        runs: where capacity searches and plans evaluate; ``Runs("local")`` uses all cores.

    Raises ServelabError for a file that is missing or no scenario.
    """
    work = Work(runs, FOR_OTHERS if for_others else Limits(), not for_others)
    made = Explorer(scenario if isinstance(scenario, Scenario) else _first(), seed, dark, work)
    if isinstance(scenario, str | Path):
        path = Path(scenario)
        if not path.is_file():
            raise ServelabError(f"scenario {str(path)!r}: no such file")
        made.load(path.read_text(encoding="utf-8"), path.parent)
        made.seed = made.seed or seed
    return made


def _first() -> Scenario:
    return Scenario.load(presets()["default"])


class Explorer(Toolbar, Form, Jobs, Outcomes):
    """See `explore`. From Python: ``scenario`` and ``result`` are the draft and the last run, `simulate`,
    `capacity`, `plan` start a job (``job.wait()`` waits for it), `pin`, `load`, `to_text`."""

    def __init__(self, scenario: Scenario, seed: int, dark: bool, work: Work) -> None:
        self.draft, self._work, self._dark = Draft(scenario, work.files), work, dark
        self.job: Job | None = None
        self.outcome: Outcome | None = None  # the last one
        self.run: Outcome | None = None  # the last simulation
        self.search: Outcome | None = None  # the last capacity or plan
        self.pinned: Outcome | None = None
        self._syncing = False
        self._editors: dict[Keys, tuple[Field, w.Widget]] = {}
        self._tabs: dict[str, Any] = {}
        self._drawn: set[int] = set()
        self._seed = w.BoundedIntText(
            seed,
            min=0,
            max=MOST_SEED,
            description="seed",
            layout=w.Layout(width="150px"),
            style={"description_width": "35px"},
        )
        self._seed.observe(lambda change: self._guarded(self._texts), "value")
        self._area: w.Textarea | None = None
        self._area_text = ""
        self._toolbar()
        self._panels = w.Accordion(layout=full())
        self._which = w.Dropdown(description="deployment", layout=full())
        self._which.observe(lambda change: self._guarded(self._rebuild), "value")
        self._panels.observe(lambda change: self._guarded(self._open_panel), "selected_index")
        self._knobs, self._card, self._fault = w.VBox(), w.HTML(), w.HTML()
        self._actions()
        self._results = w.Tab(layout=full())
        self._results.layout.display = "none"  # until there is one
        self._results.observe(lambda change: self._guarded(self._draw_tab), "selected_index")
        left = w.VBox([self._knobs, self._which, self._panels], layout=w.Layout(width="440px", flex="0 0 440px"))
        right = w.VBox(
            [self._card, self._fault, self._run_bar, self._results],
            layout=w.Layout(flex="1 1 520px", min_width="0", padding="0 0 0 16px"),
        )
        body = w.HBox([left, right], layout=w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start"))
        super().__init__([w.HTML(cards.STYLE), self._bar, body], layout=full())
        self._rebuild()

    # ---- from Python ----------------------------------------------------------------------------------------

    @property
    def scenario(self) -> Scenario:
        """The draft, checked. Raises ServelabError for a faulty one."""
        return self.draft.scenario()

    @property
    def seed(self) -> int:
        return int(self._seed.value)

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed.value = value

    @property
    def result(self) -> Result | None:
        """Of the last simulation; None before the first."""
        found = self.run.found if self.run else None
        return found if isinstance(found, Result) else None

    def set(self, path: str, value: Any) -> None:
        """Set a field, such as ``deployments.0.replicas``. Raises ServelabError for one that the form does not have."""
        keys = tuple(int(k) if k.isdigit() else k for k in path.split("."))
        found = next((f for f in self._fields() if f.path == keys), None)
        if found is None:
            raise ServelabError(f"field {path!r} is not in the form")
        self._change(found, value)

    def slider(self, path: str) -> w.Widget:
        """The slider or list at the top of a field. Raises ServelabError for one that has none."""
        found = next(
            (editor for key, (f, editor) in self._editors.items() if key[0] == "knob" and f.name == path), None
        )
        if found is None:
            raise ServelabError(f"field {path!r} has no slider")
        return found

    def load(self, text: str, base_dir: Path | None = None) -> None:
        """Take a scenario or the state of an explorer from YAML. Raises ServelabError for a faulty one; the draft
        then stays."""
        folder = self.draft.base_dir if base_dir is None else base_dir
        state = of_text(text, folder)
        pinned = None
        if state.pinned is not None:
            pinned = self._work.run(Scenario.of(state.pinned, folder), state.pinned_seed)
            if self.job is not None and self.job.status == "running":
                raise ServelabError(
                    "the file has a pinned run, and a job is running: wait for it or cancel it, then open the file"
                )
        self._take(state, folder)
        if not state.plain:
            self._pin_outcome(None)
        if pinned is not None:
            self._start(pinned, then=self._pin_outcome)

    def to_text(self) -> str:
        """YAML of the state: draft and seed, pinned scenario and its seed."""
        pinned = self.pinned
        return self.draft.to_text(
            self.seed, pinned.scenario.to_mapping() if pinned else None, pinned.seed if pinned else 0
        )

    def _take(self, state: State, folder: Path) -> None:
        self.draft.replace(Scenario.of(state.mapping, folder))
        self.seed = state.seed
        self._rebuild()
