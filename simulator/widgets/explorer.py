"""The explorer: a scenario as a form in a notebook, a preview that follows it, runs in the background, comparison.
Nothing else here imports ipywidgets.

from simulator.widgets import explore
explore("examples/default.yaml")
"""

import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from simulator import charts
from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.background import Job, Progress
from simulator.explorer.draft import MOST_SEED, Draft, State, of_text, presets
from simulator.explorer.entry import LADDERS, entered, knobs, listed, options, reached, shown, steps
from simulator.explorer.form import PANELS, Field, Keys, fields
from simulator.explorer.limits import FOR_OTHERS, Limits
from simulator.explorer.preview import preview
from simulator.explorer.text import mapping_of, text_of
from simulator.explorer.views import COMPARED, Html, Item, all_tabs
from simulator.explorer.work import Outcome, Work
from simulator.planner.designs import Claim
from simulator.planner.runs import Runs
from simulator.results.result import Result
from simulator.scenario import Scenario

NARROW = {"description_width": "215px"}
CHOICES = "replicas: [1, 2, 3, 4, 6, 8]\nmax_num_batched_tokens: [2048, 8192]\n"


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


class Explorer(w.VBox):
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
        self._panels = w.Accordion(layout=_full())
        self._which = w.Dropdown(description="deployment", layout=_full())
        self._which.observe(lambda change: self._guarded(self._rebuild), "value")
        self._panels.observe(lambda change: self._guarded(self._open_panel), "selected_index")
        self._knobs, self._card, self._fault = w.VBox(), w.HTML(), w.HTML()
        self._actions()
        self._results = w.Tab(layout=_full())
        self._results.layout.display = "none"  # until there is one
        self._results.observe(lambda change: self._guarded(self._draw_tab), "selected_index")
        left = w.VBox([self._knobs, self._which, self._panels], layout=w.Layout(width="440px", flex="0 0 440px"))
        right = w.VBox(
            [self._card, self._fault, self._run_bar, self._results],
            layout=w.Layout(flex="1 1 520px", min_width="0", padding="0 0 0 16px"),
        )
        body = w.HBox([left, right], layout=w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start"))
        super().__init__([w.HTML(cards.STYLE), self._bar, body], layout=_full())
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

    def simulate(self) -> Job | None:
        """Start a simulation of the draft; None while another job runs, or if the draft is faulty (the page says
        why)."""
        return self._begin(lambda s: self._work.run(s, self.seed))

    def capacity(self) -> Job | None:
        """Start to look for the highest rate within the SLO."""
        return self._begin(lambda s: self._work.capacity(s, self.seed))

    def plan(self, choices: dict[str, list[Any]] | None = None, claim: Claim | None = None) -> Job | None:
        """Start to look for the cheapest of ``choices`` that holds as ``claim`` says; those of the page where not
        given."""

        def work(scenario: Scenario) -> Any:
            wanted = mapping_of(self._choices.value, "choices") if choices is None else choices
            return self._work.plan(scenario, self.seed, wanted, claim or Claim(probability=self._probability.value))

        return self._begin(work)

    def cancel(self) -> None:
        """Stop the running job at its next report."""
        if self.job is not None and self.job.status == "running":
            self.job.cancel()
            self._says.value = "stopping"

    def pin(self) -> None:
        """Keep the last run for comparison."""
        if self.run is not None:
            self._pin_outcome(self.run)

    def _take(self, state: State, folder: Path) -> None:
        self.draft.replace(Scenario.of(state.mapping, folder))
        self.seed = state.seed
        self._rebuild()

    # ---- toolbar --------------------------------------------------------------------------------------------

    def _toolbar(self) -> None:
        self._undo = self._button("undo", "undo", "one edit back", lambda: self._history(self.draft.undo))
        self._redo = self._button("redo", "repeat", "one edit forward", lambda: self._history(self.draft.redo))
        self._preset = w.Dropdown(
            options=[("start from …", ""), *((name, name) for name in presets())], layout=w.Layout(width="170px")
        )
        self._preset.observe(lambda change: self._take_preset(change["new"]), "value")
        self._upload = w.FileUpload(
            accept=".yaml,.yml",
            description="open",
            tooltip="a scenario, or the state of an explorer, in YAML",
            layout=w.Layout(width="100px"),
        )
        self._upload.observe(lambda change: self._take_upload(), "value")
        self._download = w.HTML()
        self._bar = w.HBox(
            [self._preset, self._undo, self._redo, self._upload, self._download, self._seed],
            layout=w.Layout(flex_flow="row wrap", align_items="center"),
        )

    def _history(self, step: Callable[[], None]) -> None:
        step()
        self._rebuild()

    def _take_preset(self, name: str) -> None:
        if name:
            self._preset.value = ""
            self._guarded(lambda: self._history(lambda: self.draft.replace(Scenario.load(presets()[name]))))

    def _take_upload(self) -> None:
        if self._upload.value:
            content = bytes(self._upload.value[0]["content"])
            self._guarded(lambda: self.load(text_of(content)))
            self._upload.value = ()

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

    # ---- form -----------------------------------------------------------------------------------------------

    def _fields(self) -> list[Field]:
        return fields(self.draft.mapping, self._which.value or 0)

    def _rebuild(self) -> None:
        """Make all editors anew: the fields may be others than before."""
        if self._syncing:
            return
        self._syncing = True
        try:
            self._name_deployments()
            found = self._fields()
            self._editors, self._area = {}, None
            _refill(self._knobs, [self._knob(f) for f in knobs(found, self._which.value or 0)])
            held = self._panels.selected_index
            _refill(self._panels, [w.VBox(layout=_full()) for _ in (*PANELS, "YAML")])
            self._panels.titles = (*PANELS, "YAML")
            self._panels.selected_index = held
            self._open_panel()
        finally:
            self._syncing = False
            self._changed()

    def _name_deployments(self) -> None:
        names = tuple((str(d.get("name", "llm")), i) for i, d in enumerate(self.draft.mapping["deployments"]))
        if self._which.options != names:
            held = self._which.value or 0
            self._which.options = names
            self._which.value = held if held < len(names) else 0
        self._which.layout.display = "" if len(names) > 1 else "none"

    def _open_panel(self) -> None:
        """Fill the panel that was opened; those that nobody opens cost nothing."""
        place = self._panels.selected_index
        if place is None or self._panels.children[place].children:
            return
        if place == len(PANELS):
            self._area_text = self.draft.to_text(self.seed)
            area = self._area = w.Textarea(self._area_text, layout=w.Layout(width="100%", height="360px"))
            take = lambda: self._take(of_text(area.value, self.draft.base_dir), self.draft.base_dir)
            apply = self._button("apply", "check", "take this text as the scenario", take)
            self._panels.children[place].children = [area, apply]
            return
        made: list[w.Widget] = []
        heading = ""
        for f in (f for f in self._fields() if f.panel == PANELS[place]):
            if f.group != heading:
                heading = f.group
                made.append(w.HTML(cards.group(heading or "deployment")))
            made.append(self._editor(f))
            if f.help or f.limits:
                made.append(w.HTML(cards.hint(f.help, f.limits)))
        self._panels.children[place].children = made

    def _editor(self, f: Field) -> w.Widget:
        made = _input(f)
        self._editors[f.path] = (f, made)
        made.observe(lambda change: self._edited(f.path, made), "value")
        return made

    def _knob(self, f: Field) -> w.Widget:
        made = _slider(f)
        made.observe(lambda change: self._edited(f.path, made), "value")
        self._editors[("knob", *f.path)] = (f, made)
        return made

    def _edited(self, path: Keys, editor: w.Widget) -> None:
        if self._syncing:
            return
        f = next((x for x in self._fields() if x.path == path), None)
        if f is None:
            return
        self._guarded(lambda: self._change(f, entered(f, editor.value)))

    def _change(self, f: Field, value: Any) -> None:
        before = [x.path for x in self._fields()]
        self.draft.set(f, value)
        found = self._fields()
        which = [("knob", *x.path) for x in knobs(found, self._which.value or 0)]
        if [x.path for x in found] != before or any(key not in self._editors for key in which):
            self._rebuild()
            return
        now = next(x for x in found if x.path == f.path)
        self._syncing = True
        try:
            self._name_deployments()
            for key in (f.path, ("knob", *f.path)):
                if key in self._editors:
                    _show(now, self._editors[key][1])
        finally:
            self._syncing = False
            self._changed()

    def _changed(self) -> None:
        """The draft is another: preview, download, history."""
        self._undo.disabled, self._redo.disabled = not self.draft.can_undo, not self.draft.can_redo
        self._texts()
        self._fault.value = ""
        try:
            scenario = self.scenario
        except ServelabError as problem:
            self._card.value = cards.say(str(problem), cards.BAD)
            return
        try:
            self._card.value = cards.preview_card(preview(scenario, self._work.limits))
        except ServelabError as problem:
            self._card.value = cards.say(str(problem), cards.WARN)
        except Exception as fault:  # noqa: BLE001 (the card must not go on showing the draft before)
            self._card.value = cards.say(f"no preview: {type(fault).__name__}: {fault}", cards.BAD)

    def _texts(self) -> None:
        """The file to save, and the YAML panel unless somebody has begun to edit it."""
        self._download.value = cards.download(self.to_text())
        if self._area is not None and self._area.value == self._area_text:
            self._area_text = self._area.value = self.draft.to_text(self.seed)

    # ---- jobs -----------------------------------------------------------------------------------------------

    def _actions(self) -> None:
        self._go = [
            self._button("simulate", "play", "one run, in the background", self.simulate, "success"),
            self._button("capacity", "line-chart", "the highest rate within the SLO", self.capacity),
            self._button("plan", "search", "the cheapest of the choices below that holds the SLO", self.plan),
        ]
        self._stop = self._button("cancel", "stop", "what is reached is kept", self.cancel, "warning")
        self._pin = self._button("pin", "thumb-tack", "keep the last run as A, to compare the next ones with", self.pin)
        self._bar_done = w.FloatProgress(0, min=0, max=1, layout=w.Layout(width="220px", display="none"))
        self._says = w.HTML()
        self._choices = w.Textarea(CHOICES, layout=w.Layout(width="420px", height="64px"))
        self._probability = w.BoundedFloatText(
            0.9,
            min=0.5,
            max=0.99,
            step=0.05,
            description="holds in a share of",
            style={"description_width": "120px"},
            layout=w.Layout(width="220px"),
        )
        asked = w.Accordion(
            [w.VBox([self._choices, self._probability])],
            titles=("choices of a plan: fields and values",),
            layout=w.Layout(width="460px"),
        )
        self._run_bar = w.VBox(
            [
                w.HBox([*self._go, self._stop, self._pin], layout=w.Layout(flex_flow="row wrap")),
                w.HBox([self._bar_done, self._says], layout=w.Layout(align_items="center")),
                asked,
            ]
        )
        self._idle(True)

    def _idle(self, idle: bool) -> None:
        for b in self._go:
            b.disabled = not idle
        self._stop.disabled = idle
        self._pin.disabled = self.run is None
        self._stop.button_style = "" if idle else "warning"
        self._bar_done.layout.display = "none" if idle else ""

    def _begin(self, work: Callable[[Scenario], Any]) -> Job | None:
        made = self._guarded(lambda: work(self.scenario))
        return self._start(made) if made is not None else None

    def _start(self, work: Any, then: Callable[[Outcome], None] | None = None) -> Job | None:
        if self.job is not None and self.job.status == "running":
            return None
        self._fault.value = ""
        self._bar_done.value, self._bar_done.bar_style = 0.0, "info"
        self._says.value = "starting"
        self.job = Job(work, self._told, lambda job: self._ended(job, then))
        self._idle(False)
        return self.job.start()

    def _told(self, p: Progress) -> None:
        if p.fraction is not None:
            self._bar_done.value = p.fraction
        left = "" if p.remaining_s is None else f", {cards.duration(p.remaining_s)} to go"
        self._says.value = f'<span class="sl-note">{escape(p.text)} ({cards.duration(p.elapsed_s)}{left})</span>'

    def _ended(self, job: Job, then: Callable[[Outcome], None] | None) -> None:
        self._says.value = f'<span class="sl-note">{job.status}</span>'
        try:
            if then is not None and job.status == "cancelled":
                self._says.value = '<span class="sl-note">cancelled: nothing is pinned</span>'
            elif isinstance(job.result, Outcome):
                if job.result.cached:
                    self._says.value = '<span class="sl-note">found again: computed before</span>'
                self._guarded(lambda: (then or self._take_outcome)(job.result))
            elif job.status == "failed":
                self._fault.value = cards.say(job.problem, cards.BAD)
        finally:
            self._idle(True)

    def _take_outcome(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if outcome.kind == "run":
            self.run = outcome
        else:
            self.search = outcome
        self._show_outcome()

    def _pin_outcome(self, outcome: Outcome | None) -> None:
        if outcome is None and self.pinned is None:
            return
        self.pinned = outcome
        if outcome is not None:
            self._says.value = f'<span class="sl-note">pinned as A: {outcome.stamp}</span>'
        self._changed()
        if self.outcome is not None:
            self._show_outcome()

    # ---- results --------------------------------------------------------------------------------------------

    def _show_outcome(self) -> None:
        """Tabs of the last simulation and the last search; each is drawn when it is opened."""
        assert self.outcome is not None
        self._tabs, self._drawn = all_tabs(self.run, self.search, self.pinned), set()
        _refill(self._results, [w.VBox(layout=_full()) for _ in self._tabs])
        self._results.titles = titles = list(self._tabs)
        self._results.layout.display = ""
        last = self.outcome is self.search
        self._results.selected_index = len(titles) - 1 if last else titles.index(COMPARED) if COMPARED in titles else 0
        self._draw_tab()

    def _draw_tab(self) -> None:
        place = self._results.selected_index
        if place is None or place in self._drawn or place >= len(self._tabs):
            return
        self._drawn.add(place)
        title, draw = list(self._tabs.items())[place]
        made = self._guarded(lambda: [self._shown(item) for item in draw()]) or []
        best = getattr(self.search.found, "best", None) if self.search and title == "Plan" else None
        if best is not None:
            take = lambda: self._history(lambda: self.draft.replace(best.scenario))
            made.append(self._button("take this plan", "check", "make it the draft", take))
        self._results.children[place].children = made

    def _shown(self, item: Item) -> w.Widget:
        if isinstance(item, Html):
            return w.HTML(item.text)
        if item.live:
            return charts.interactive(item.chart, self._dark)
        return w.HTML(cards.picture(charts.to_svg(item.chart, self._dark)))


def _full() -> w.Layout:
    """A layout of its own: widgets that share one hide together."""
    return w.Layout(width="calc(100% - 4px)")


def _refill(box: w.Box, children: list[w.Widget]) -> None:
    """Other children of a box; those before are closed, or they would pile up."""
    before = box.children
    box.children = children
    for child in before:
        _close(child)


def _close(widget: w.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    for name in ("layout", "style"):
        if isinstance(getattr(widget, name, None), w.Widget):
            getattr(widget, name).close()
    widget.close()


# ---- editors: one for each kind of field ------------------------------------------------------------------


def _slider(f: Field) -> w.Widget:
    """A knob, its label above it."""
    made = _bare_slider(
        f, {"description": f.label, "style": {"description_width": "100%"}, "layout": _full(), "tooltip": f.help}
    )
    made.add_class("sl-knob")
    return made


def _bare_slider(f: Field, more: dict[str, Any]) -> w.Widget:
    if f.path[-1] == "rate_rps":
        at = math.log10(f.value)
        return w.FloatLogSlider(f.value, base=10, min=at - 1.5, max=at + 1.5, step=0.01, readout_format=".3g", **more)
    if f.path[-1] == "replicas":
        return w.IntSlider(f.value, min=min(1, f.value), max=max(16, 4 * f.value), **more)
    if f.path[-1] in LADDERS:
        return w.SelectionSlider(options=steps(f), value=_or_empty(f.value), **more)
    if listed(f):
        return w.Dropdown(options=options(f), value=f.value, **more)
    return w.Combobox(value=shown(f), options=list(f.choices), continuous_update=False, **more)


def _input(f: Field) -> w.Widget:
    more: dict[str, Any] = {
        "description": f.label,
        "style": NARROW,
        "layout": _full(),
        "tooltip": f"{f.help} {f.limits}".strip(),
    }
    if f.kind == "boolean":
        return w.Checkbox(bool(f.value), indent=False, **{**more, "style": {}})
    if f.kind == "choice":
        return w.Dropdown(options=options(f), value=f.value, **more)
    more |= {"continuous_update": False, "placeholder": "default" if f.nullable else ""}
    if f.kind == "suggest":
        return w.Combobox(value=shown(f), options=list(f.choices), **more)
    if f.kind == "yaml":
        return w.Textarea(shown(f), rows=min(max(shown(f).count("\n") + 1, 2), 12), **more)
    return w.Text(shown(f), **more)


def _show(f: Field, editor: w.Widget) -> None:
    """The field's value in its editor; a slider that does not reach so far is made longer, one that cannot stays."""
    if isinstance(editor, w.SelectionSlider | w.IntSlider | w.FloatLogSlider) and not reached(f):
        return
    if isinstance(editor, w.SelectionSlider):
        editor.options = steps(f)
    if isinstance(editor, w.Dropdown):
        editor.options = options(f)
    if isinstance(editor, w.IntSlider):
        editor.max, editor.min = max(editor.max, f.value), min(editor.min, f.value)
    if isinstance(editor, w.FloatLogSlider):
        at = math.log10(f.value)
        editor.max, editor.min = max(editor.max, at), min(editor.min, at)
    if isinstance(editor, w.Text | w.Textarea | w.Combobox):
        editor.value = shown(f)
    elif isinstance(editor, w.Checkbox):
        editor.value = bool(f.value)
    else:
        editor.value = f.value if isinstance(editor, w.Dropdown) else _or_empty(f.value)


def _or_empty(value: Any) -> Any:
    """A slider takes no None."""
    return "" if value is None else value
