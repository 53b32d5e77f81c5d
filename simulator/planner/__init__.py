"""Planning: sweeps, capacity, the cheapest plan that holds, comparisons, sensitivity, and how sure all that is.

Every answer comes from simulations; nothing is drawn, printed or exported here.
"""
