"""Editors: one for each kind of field, and the sliders at the top."""

import math
from typing import Any

import ipywidgets as w

from simulator.explorer.entry import LADDERS, listed, options, reached, shown, steps
from simulator.explorer.form import Field
from simulator.widgets.boxes import full

NARROW = {"description_width": "215px"}


def slider_of(f: Field) -> w.Widget:
    """A knob, its label above it."""
    made = _bare_slider(
        f, {"description": f.label, "style": {"description_width": "100%"}, "layout": full(), "tooltip": f.help}
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


def editor_of(f: Field) -> w.Widget:
    more: dict[str, Any] = {
        "description": f.label,
        "style": NARROW,
        "layout": full(),
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


def put(f: Field, editor: w.Widget) -> None:
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
