"""Which balancing policy serves a load best: the gateway's own policies before simulated engines.

`python -m bench.balancing` plays the same traces through each policy. See docs/benchmarks.md.
"""
