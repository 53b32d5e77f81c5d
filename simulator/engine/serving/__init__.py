"""How a deployment makes batches: `base` says what a kind is, `config` lists them, then a file each: vLLM's continuous
batching, or what servers did before, under their own parameters and defaults.

Every kind runs on the same step times and the same KV blocks. All but ``continuous`` and ``orca`` are one batcher
(`simulator.engine.whole_batch`); `base.Batching` is what each becomes. Their answers leave when the whole batch is
done, so TTFT is E2EL.
"""
