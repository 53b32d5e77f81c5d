"""Readers of the formats of others: a module each, ``read(path, ...)`` gives a `RequestTable`."""
