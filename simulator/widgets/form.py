"""The scenario as a form: knobs on top, panels of fields, the YAML; and the preview that follows it."""

from typing import Any

import ipywidgets as w

from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.draft import of_text
from simulator.explorer.entry import entered, knobs
from simulator.explorer.form import PANELS, Field, Keys, fields
from simulator.explorer.preview import preview
from simulator.widgets.boxes import full, refill
from simulator.widgets.editors import editor_of, put, slider_of
from simulator.widgets.page import Page


class Form(Page):
    """Part of the explorer."""

    _knobs: w.VBox
    _panels: w.Accordion
    _which: w.Dropdown
    _undo: w.Button
    _redo: w.Button
    _download: w.HTML

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
            refill(self._knobs, [self._knob(f) for f in knobs(found, self._which.value or 0)])
            held = self._panels.selected_index
            refill(self._panels, [w.VBox(layout=full()) for _ in (*PANELS, "YAML")])
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
        made = editor_of(f)
        self._editors[f.path] = (f, made)
        made.observe(lambda change: self._edited(f.path, made), "value")
        return made

    def _knob(self, f: Field) -> w.Widget:
        made = slider_of(f)
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
                    put(now, self._editors[key][1])
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
