"""What the gateway costs: CPU per request and per chunk, beside the same load without it.

`python -m bench` starts a mock engine, the gateway and a load generator as processes of their
own, and asks the engine directly and through the gateway in turn. See docs/benchmarks.md.
"""
