from backends.load import Load
from gateway.telemetry import names
from gateway.telemetry.engine_load import LoadFamilies

WHERE = {"gateway_backend": "tale", "gateway_replica": "in-process"}


def told(*loads: Load) -> dict[str, float]:
    families = LoadFamilies()
    for load in loads:
        families.add(("tale", "in-process"), load)
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels == WHERE for sample in samples)
    return {sample.name: sample.value for sample in samples}


def test_every_number_of_a_load_is_told() -> None:
    load = Load(
        running=3,
        waiting=2,
        longest_wait=1.5,
        waits=7,
        waited=9.25,
        kv_tokens=400,
        kv_planned=1000,
        cache_queries=50,
        cache_hits=40,
        cache_bytes=4096,
        steps=12,
    )
    values = told(load)
    assert values == {
        names.ENGINE_RUNNING: 3,
        names.ENGINE_WAITING: 2,
        names.ENGINE_LONGEST_WAIT: 1.5,
        names.ENGINE_KV_TOKENS: 400,
        names.ENGINE_KV_PLANNED: 1000,
        names.ENGINE_CACHE_BYTES: 4096,
        names.ENGINE_CACHE_QUERIES + "_total": 50,
        names.ENGINE_CACHE_HITS + "_total": 40,
        names.ENGINE_STEPS + "_total": 12,
        names.ENGINE_QUEUE_TIME + "_count": 7,
        names.ENGINE_QUEUE_TIME + "_sum": 9.25,
    }
    assert sorted(values.values()) == sorted(
        getattr(load, field) for field in Load.__struct_fields__
    )


def test_without_such_engines_nothing_is_told() -> None:
    assert told() == {}
