"""A scenario -> records: everything looked up and checked, replicas built, put among gateway, pods and nodes, and
written down as tables.

The only room where all parts of a deployment meet; each part's own rules stay in its room.
"""
