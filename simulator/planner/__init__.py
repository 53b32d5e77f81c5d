"""Planning: sweeps, capacity, the cheapest plan that holds, comparisons, sensitivity, and how sure all that is."""
