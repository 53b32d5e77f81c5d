"""What every part leans on and what leans on none of them: named random streams, stamps, service levels, YAML and the
words for its faults.

No model of anything may live here, and nothing that imports another room.
"""
