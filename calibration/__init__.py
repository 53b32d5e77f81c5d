"""Measuring the real thing, fitting it, and holding the simulator against it: rooms in the order of work, `oracle`,
`measure`, `formats`, `fit`, `judge`, `profiles`, `commands`.

At the top stand only the programs that ``python -m calibration.NAME`` runs; nothing here is imported by `simulator`.
"""
