"""How busy a server says it is."""

from __future__ import annotations

import pytest

from backends.gauges import ANY, LLAMA_SERVER, VLLM, demand_in
from backends.load import Demand

PAGE = (
    b"# TYPE vllm:num_requests_running gauge\n"
    b'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n'
    b'vllm:num_requests_running{engine="1",model_name="m"} 3.0\n'
    b'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0\n'
    b'vllm:num_requests_waiting_by_reason{reason="x"} 9.0\n'
    b"llamacpp:requests_processing 1\n"
    b"llamacpp:requests_deferred 0\n"
)


@pytest.mark.parametrize(
    ("kinds", "demand"),
    [(ANY, Demand(5, 1)), ([VLLM], Demand(5, 1)), ([LLAMA_SERVER], Demand(1, 0)), ([], None)],
)
def test_what_a_server_says(kinds, demand):
    assert demand_in(PAGE, kinds) == demand


@pytest.mark.parametrize(
    ("page", "usage"),
    [
        (
            b'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="1"} 0.7',
            0.6,
        ),
        (b"vllm:kv_cache_usage_perc NaN", None),
        (b"vllm:gpu_cache_usage_perc 0.5", None),
    ],
)
def test_how_full_the_cache_is_of_all_its_parts_together(page, usage):
    running = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"
    assert demand_in(running + page, ANY) == Demand(1, 0, usage)


@pytest.mark.parametrize(
    ("page", "demand"),
    [
        (
            b"sglang:num_running_reqs 3\nsglang:num_queue_reqs 1\nsglang:token_usage 0.25",
            Demand(3, 1, 0.25),
        ),
        (b"tgi_batch_current_size 2\ntgi_queue_size 4", Demand(2, 4)),
    ],
)
def test_servers_that_nobody_has_named(page, demand):
    assert demand_in(page, ANY) == demand


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"{}",
        b"<html>",
        b"vllm:num_requests_running 1",
        b"vllm:num_requests_running_x 1\nvllm:num_requests_waiting 0",
        b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 0",
        b"vllm:num_requests_running +Inf\nvllm:num_requests_waiting 0",
        b"vllm:num_requests_running x\nvllm:num_requests_waiting 0",
        b"\xff\xfe",
    ],
)
def test_what_is_not_there_is_unknown(page):
    assert demand_in(page, ANY) is None
