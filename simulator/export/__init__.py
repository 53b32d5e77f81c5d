"""Results and scenarios as files that other tools read, and the way back from ``vllm serve``.

A file is valid for its reader or refused; the command line over it is `simulator.command.export`.
"""
