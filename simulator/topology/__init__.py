"""The path of a request: stages before and after the LLM, and the hops between them.

The LLM itself is a stage whose inside is not known here.
"""
