"""What an in-process engine gets out of a model: tokens per second and waits for the first one.

`python -m bench.throughput` runs mlx_lm.server and the gateway on the same weights, in turns, with
the same questions. See docs/benchmarks.md.
"""
