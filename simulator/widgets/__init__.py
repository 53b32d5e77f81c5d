"""The explorer as widgets: a scenario as a form in a notebook, a preview that follows it, runs in the background,
comparison.

The only room that imports ipywidgets; what it shows and does is worked out in `simulator.explorer`.
"""

from simulator.widgets.explorer import Explorer, explore

__all__ = ["Explorer", "explore"]
