"""One replica of the model server: scheduler, KV cache, step time and the compiled loop over them.

Nothing here knows of other replicas, of routers or of prices, and SimPy is not imported.
"""
