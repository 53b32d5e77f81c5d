"""Measuring the real thing: recordings of real vLLM that the simulator is held against.

Nothing here is imported by `simulator`. `calibration.vllm_oracle` is the only module that imports vllm, and only
inside functions: it runs in an environment of vLLM's own, never in the project's, and needs numpy besides.
"""
