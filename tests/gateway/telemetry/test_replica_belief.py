from __future__ import annotations

from backends.load import Demand
from gateway.telemetry import names
from gateway.telemetry.replica_belief import Belief, BeliefFamilies

WHERE = {"gateway_backend": "qwen", "gateway_replica": "qwen@a:1"}


def told(belief: Belief) -> dict[str, float]:
    families = BeliefFamilies()
    families.add(("qwen", "qwen@a:1"), belief)
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels == WHERE for sample in samples)
    return {sample.name: sample.value for sample in samples}


def belief(**fields: object) -> Belief:
    plain = {"weight": 2.0, "pending_tokens": 30, "prompt_tokens": 900, "known_tokens": 600}
    unknown = {"first_token": None, "saturated": False, "demand": None, "demand_age": None}
    return Belief(**(plain | unknown | fields))  # type: ignore[arg-type]


def test_what_is_known_is_told() -> None:
    assert told(
        belief(first_token=0.25, saturated=True, demand=Demand(8, 5, 0.75), demand_age=1.5)
    ) == {
        names.REPLICA_WEIGHT: 2.0,
        names.REPLICA_PENDING_TOKENS: 30,
        names.REPLICA_PROMPT_TOKENS + "_total": 900,
        names.REPLICA_KNOWN_TOKENS + "_total": 600,
        names.REPLICA_FIRST_TOKEN: 0.25,
        names.REPLICA_SATURATED: 1,
        names.REPLICA_RUNNING: 8,
        names.REPLICA_WAITING: 5,
        names.REPLICA_KV_USAGE: 0.75,
        names.REPLICA_DEMAND_AGE: 1.5,
    }


def test_what_is_not_known_is_not_told_as_zero() -> None:
    assert set(told(belief())) == {
        names.REPLICA_WEIGHT,
        names.REPLICA_PENDING_TOKENS,
        names.REPLICA_PROMPT_TOKENS + "_total",
        names.REPLICA_KNOWN_TOKENS + "_total",
        names.REPLICA_SATURATED,
    }


def test_of_what_is_too_old_only_the_age_is_told() -> None:
    values = told(belief(demand_age=60.0))
    assert values[names.REPLICA_DEMAND_AGE] == 60.0
    assert names.REPLICA_RUNNING not in values
