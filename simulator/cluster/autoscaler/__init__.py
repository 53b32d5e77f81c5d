"""How many replicas to want: `base` says what an autoscaler is and what it reads, `config` lists the kinds, then a file
each with its config and its class.

Pure decisions from scraped figures; starting and stopping pods is `simulator.cluster.pods`'s.
"""
