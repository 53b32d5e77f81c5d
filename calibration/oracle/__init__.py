"""What runs in the environment of real vLLM: a scheduler driven without a model, a scheduler that writes down what it
decides, an engine under load, and what these need.

Only numpy and vLLM may be imported here, the latter in these files alone; nothing of `simulator` and nothing of the
other rooms.
"""
