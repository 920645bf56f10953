"""What came of a run, to be read."""

from __future__ import annotations

from bench.chaos.run import Result

MOST_UNANSWERED = 0.5
"""The share of requests without a right answer from which on a run shows nothing."""


def tell(result: Result, seed: int, *, grow_mb: float) -> int:
    """Print it; the exit code."""
    print(f"seed {seed}, {result.seconds:g} s")
    for kind, counter in result.verdicts.items():
        verdicts = ", ".join(f"{verdict} {number}" for verdict, number in counter.most_common())
        print(f"{kind!s:<22} {counter.total():5} answers: {verdicts}")
    for slip in result.slips:
        heard = slip.heard
        what = (
            heard.error or heard.cut or heard.odd or f"{len(heard.text)} characters, {heard.finish}"
        )
        print(f"  {slip.at:7.2f} s  {slip.verdict}: {slip.kind}, {slip.question!r}: {what}")
    print("attempts: " + ", ".join(f"{how} {n}" for how, n in result.attempts.most_common()))
    print("memory, MB: " + " ".join(f"{mb:.0f}" for mb in result.rss_mb))
    print(f"before: {result.before}\nafter:  {result.after}")
    grown = result.after.grown(result.before, mb=grow_mb)
    for what in grown:
        print(f"GROWN {what}")
    for bug in result.bugs:
        print(f"BUG {bug}")
    if result.dishonest:
        print(f"{result.dishonest} answers that no client may get")
    useless = result.unanswered > MOST_UNANSWERED
    if useless:
        print(f"{result.unanswered:.0%} of the requests have no right answer: this shows nothing")
    return 1 if result.dishonest or grown or result.bugs or useless else 0
