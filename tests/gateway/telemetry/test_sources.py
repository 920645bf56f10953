from __future__ import annotations

from gateway.telemetry.sources import source_metrics


def test_what_works_is_one_and_what_does_not_is_zero():
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in source_metrics(False, {"qwen": True, "small": False})
        for sample in family.samples
    }
    assert told == {
        ("gateway_config_last_reload_successful",): 0,
        ("gateway_discovery_last_look_successful", "qwen"): 1,
        ("gateway_discovery_last_look_successful", "small"): 0,
    }
