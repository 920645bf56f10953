from __future__ import annotations

from gateway.telemetry.gates import GateState, gate_metrics


def test_each_gate_is_told():
    gates = [GateState(model="a", inside=2, places=3, waiting={"high": 1, "low": 0})]
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in gate_metrics(gates)
        for sample in family.samples
    }
    assert told == {
        ("gateway_admission_inside", "a"): 2,
        ("gateway_admission_places", "a"): 3,
        ("gateway_admission_waiting", "a", "high"): 1,
        ("gateway_admission_waiting", "a", "low"): 0,
    }
