"""What a simulation came to: waits, cache hits, balance, and whether the fleet kept up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from bench.balancing.simulation import Simulation

WARM_UP, COOL_DOWN = 0.2, 0.1
"""Shares of the time at the beginning and the end of which the requests do not count."""


class Figures(msgspec.Struct, frozen=True):
    """Of the requests that came while it was measured; times in seconds."""

    rate: float
    """Conversations that began in a second."""
    requests: int
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    ttft_mean: float
    token_p95: float
    """Mean time between two tokens of an answer, at the slowest twentieth of answers."""
    hit_rate: float
    """Tokens of prompts that were cached, of all tokens of prompts."""
    imbalance: float
    """Requests in flight at the replica with most of them, over the mean replica's; over time."""
    served: float
    """Tokens of answers that were completed, by those that were asked for in the same time."""
    tokens_per_second: float
    """Of completed answers."""


def figures(rate: float, simulations: Sequence[Simulation]) -> Figures:
    """Of some simulations at the same rate, with traces that differ by their seed, together."""
    waits: list[float] = []
    token_times: list[float] = []
    prompt = cached = 0
    asked = completed = 0
    seconds = 0.0
    imbalances: list[float] = []
    for simulation in simulations:
        begin, end = WARM_UP * simulation.arrivals_end, (1 - COOL_DOWN) * simulation.arrivals_end
        seconds += end - begin
        busy: defaultdict[str, float] = defaultdict(float)
        for flight in simulation.flights:
            if begin <= flight.done < end:
                completed += flight.output_tokens
            if not begin <= flight.arrived < end:
                continue
            waits.append(flight.first - flight.arrived)
            prompt += flight.asked.work.prompt_tokens
            cached += flight.cached
            asked += flight.output_tokens
            if flight.output_tokens > 1:
                token_times.append((flight.done - flight.first) / (flight.output_tokens - 1))
            if flight.attempt is not None:
                busy[flight.attempt.replica.id] += min(flight.done, end) - flight.arrived
        mean = sum(busy.values()) / len(simulation.fleets[0].replicas)
        imbalances.append(max(busy.values()) / mean)
    waits.sort()
    token_times.sort()
    return Figures(
        rate=rate,
        requests=len(waits),
        ttft_p50=quantile(waits, 0.5),
        ttft_p95=quantile(waits, 0.95),
        ttft_p99=quantile(waits, 0.99),
        ttft_mean=sum(waits) / len(waits),
        token_p95=quantile(token_times, 0.95),
        hit_rate=cached / prompt,
        imbalance=sum(imbalances) / len(imbalances),
        served=completed / asked,
        tokens_per_second=completed / seconds,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
