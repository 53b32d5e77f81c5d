"""Which pod a request goes to: `base` says what a router is, `config` lists the kinds, then a file each with its config
and its class.

A router sees the view that its signals give, as old as they are, and never the replicas themselves.
"""
