from backends.base import Supervised
from gateway.telemetry import names
from gateway.telemetry.engine_process import ProcessFamilies

WHERE = {"gateway_backend": "tale", "gateway_replica": "tale@0"}


def told(supervised: Supervised) -> dict[str, float]:
    families = ProcessFamilies()
    families.add(("tale", "tale@0"), supervised)
    samples = [sample for family in families for sample in family.samples]
    assert all(WHERE.items() <= sample.labels.items() for sample in samples)
    return {sample.name: sample.value for sample in samples}


def test_a_process_tells_its_phase_its_restarts_and_its_memory() -> None:
    assert told(Supervised("ready", restarts=2, memory=4096)) == {
        names.ENGINE_STATE: 1,
        names.ENGINE_RESTARTS + "_total": 2,
        names.ENGINE_MEMORY: 4096,
    }


def test_memory_that_was_never_measured_is_not_zero() -> None:
    assert names.ENGINE_MEMORY not in told(Supervised("starting", restarts=0))
