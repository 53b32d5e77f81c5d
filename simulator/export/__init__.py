"""Results as files that other tools read: `vllm_bench`, `chrome_trace`; `commands` is their command line."""
