from backends.base import Supervised
from backends.load import Load
from backends.readiness import Condition
from gateway.telemetry import names
from gateway.telemetry.replicas import ReplicaState, replica_metrics


def told(*states: ReplicaState) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in replica_metrics(states)
        for sample in family.samples
    ]


def test_a_replica_tells_whether_it_takes_traffic_and_if_not_why() -> None:
    where = {"gateway_backend": "qwen", "gateway_replica": "http://a:1"}
    away = ReplicaState(
        "qwen",
        "http://a:1",
        ready=False,
        outstanding=3,
        condition=Condition.EJECTED,
        ejections={"latency": 2},
        adapters=[("poet", True), ("judge", False)],
    )
    assert told(away) == [
        (names.REPLICA_READY, where, 0),
        (names.REPLICA_CONDITION, where | {"gateway_condition": "ejected"}, 1),
        (names.REPLICA_EJECTIONS + "_total", where | {"gateway_ejected_by": "latency"}, 2),
        (names.REPLICA_OUTSTANDING, where, 3),
        (names.ADAPTER_READY, where | {"gateway_adapter": "poet"}, 1),
        (names.ADAPTER_READY, where | {"gateway_adapter": "judge"}, 0),
    ]


def test_only_who_runs_here_tells_of_its_engine() -> None:
    states = (
        ReplicaState("tale", "in-process", ready=True, outstanding=5, load=Load(3, 2)),
        ReplicaState("far", "http://a:1", ready=True, outstanding=1),
        ReplicaState("own", "own@0", ready=True, outstanding=0, supervised=Supervised("ready", 1)),
    )
    said = {(name, labels["gateway_backend"]): value for name, labels, value in told(*states)}
    assert said[names.ENGINE_RUNNING, "tale"] == 3
    assert said[names.ENGINE_WAITING, "tale"] == 2
    assert said[names.ENGINE_RESTARTS + "_total", "own"] == 1
    assert not {name for name, backend in said if backend == "far" and "engine" in name}
