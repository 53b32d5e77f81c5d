"""The path of a request: stages before and after the LLM, and the hops between them."""
