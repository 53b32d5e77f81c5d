"""Prices: rows with source and date, how they are bought, machines as sold, servers of one's own, paid APIs.

What one hour or token costs, never how many were used: that is `simulator.cost`.
"""
