"""The bar on top: presets, undo and redo, files, the seed."""

from collections.abc import Callable

import ipywidgets as w

from simulator.explorer.draft import presets
from simulator.explorer.text import text_of
from simulator.scenario import Scenario
from simulator.widgets.page import Page


class Toolbar(Page):
    """Part of the explorer."""

    _undo: w.Button
    _redo: w.Button

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
