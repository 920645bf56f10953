"""How busy a server says it is."""

from __future__ import annotations

import pytest

from backends.base import Demand
from backends.gauges import ANY, LLAMA_SERVER, VLLM, demand_in

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
