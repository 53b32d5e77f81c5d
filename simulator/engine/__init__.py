"""One replica of the model server: scheduler, KV cache, step time and the compiled loop over them."""
