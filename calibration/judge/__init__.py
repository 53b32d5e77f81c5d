"""Measured against simulated: schedules replayed decision by decision, load tests, intervals, reports.

Nothing here changes a coefficient: what is found wrong is said.
"""
