"""How long the GPU works on one batch: `base` says what a model is, `config` lists the kinds and is what the compiled
loop calls, then a file each with its config, its compiled function and what builds it.

A model knows one batch and nothing of those before it; fitting one to measurements is `calibration.fit`'s.
"""
