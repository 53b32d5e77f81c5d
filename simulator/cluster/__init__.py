"""Many replicas: routers, admission, autoscalers, pods and nodes, and the course of events that drives them.

What a batch takes is the engine's; what stands before and after the LLM is `simulator.topology`'s.
"""
