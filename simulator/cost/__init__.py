"""Records and prices -> dollars. Pure functions; :mod:`simulator.cost.prices` is the scenario's part."""
