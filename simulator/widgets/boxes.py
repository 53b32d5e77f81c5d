"""Layouts and boxes of the explorer."""

import ipywidgets as w


def full() -> w.Layout:
    """A layout of its own: widgets that share one hide together."""
    return w.Layout(width="calc(100% - 4px)")


def refill(box: w.Box, children: list[w.Widget]) -> None:
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
