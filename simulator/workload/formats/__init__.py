"""Readers of the trace formats of others: a module each, ``read(path, ...)`` gives a `RequestTable`.

A reader says what it left out; workloads that are only described, not listed, are read in
`simulator.workload.descriptions`.
"""
