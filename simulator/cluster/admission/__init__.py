"""Whether the gateway takes a request at all: `base` says what a policy is, `config` lists the kinds, then a file each
with its config and its class.

A policy sees the gateway's view and nothing of the future.
"""
