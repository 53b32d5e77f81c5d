"""Records and prices -> dollars: rented machines, the bill, the ledger, energy. Pure functions over a run's tables.

Nothing is simulated here, and a price that is missing is listed, never guessed.
"""
