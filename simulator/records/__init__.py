"""What a run leaves behind: its tables, their files, and the figures that are read straight off the columns.

No judgement lives here (`simulator.results`) and no money (`simulator.cost`).
"""
