"""What the explorer of `simulator.widgets` shows and does, without any widget: form, draft, preview, jobs.

ipywidgets may not be imported here.
"""
