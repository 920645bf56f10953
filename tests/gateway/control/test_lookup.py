"""Replicas are found where they are told, by a real DNS server and in real files."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from backends.options import Discover, WeightedReplica
from gateway.control.lookup import (
    MOST,
    LookupFailedError,
    by_address,
    checked,
    look_up,
    read_list,
)
from tests.support.nameserver import nameserver

URL = "http://llama.internal:8080/v1"
SRV = "http://_llama._tcp.internal"


def weighted(url, weight):
    return WeightedReplica(url=url, weight=weight)


def by_dns(server, **fields):
    return Discover(**(fields or {"dns": URL}), nameserver=server.address)


class TestAddresses:
    async def test_each_address_is_a_replica_in_an_order_of_its_own(self):
        async with nameserver() as server:
            server.records["llama.internal", "A"] = ["10.0.0.2", "10.0.0.1"]
            server.ttl = 7
            found = await look_up(by_dns(server))
        assert found.replicas == ("http://10.0.0.1:8080/v1", "http://10.0.0.2:8080/v1")
        assert found.ttl == 7

    async def test_ipv6_where_there_is_no_other(self):
        async with nameserver() as server:
            server.records["llama.internal", "AAAA"] = ["fd00::1"]
            assert (await look_up(by_dns(server))).replicas == ("http://[fd00::1]:8080/v1",)
            server.records["llama.internal", "A"] = ["10.0.0.1"]
            assert (await look_up(by_dns(server))).replicas == ("http://10.0.0.1:8080/v1",)

    def test_a_machine_with_both_is_one_replica(self):
        assert by_address("http://h", ["::1", "127.0.0.1", "127.0.0.1"]) == ["http://127.0.0.1"]

    @pytest.mark.parametrize("records", [{}, {("llama.internal", "TXT"): ['"hello"']}])
    async def test_no_name_and_no_address_are_failures(self, records):
        async with nameserver() as server:
            server.records = records
            with pytest.raises(LookupFailedError, match=r"llama\.internal has no AAAA records"):
                await look_up(by_dns(server))

    async def test_too_many_are_left_out(self):
        async with nameserver() as server:
            server.records["llama.internal", "A"] = [f"10.0.0.{n}" for n in range(MOST + 6)]
            found = await look_up(by_dns(server))
        assert (len(found.replicas), found.left_out) == (MOST, 6)

    async def test_a_server_that_says_nothing_is_given_up(self):
        async with nameserver() as server:
            server.silent = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await look_up(by_dns(server))
        assert server.questions

    async def test_the_machines_own_way_knows_this_machine(self):
        found = await look_up(Discover(dns="http://localhost:8080"))
        assert found.replicas in (("http://127.0.0.1:8080",), ("http://[::1]:8080",))
        assert found.ttl is None

    async def test_the_machines_own_way_says_what_is_not_found(self):
        with pytest.raises(LookupFailedError, match="is not found"):
            await look_up(Discover(dns="http://nobody.invalid:8080"))


class TestServices:
    async def test_the_targets_of_the_lowest_priority_with_their_weights(self):
        async with nameserver() as server:
            server.records["_llama._tcp.internal", "SRV"] = [
                "10 20 8001 one.internal.",
                "10 10 8002 two.internal.",
                "20 10 8003 spare.internal.",
            ]
            found = await look_up(by_dns(server, srv=SRV + "/v1"))
        one, two = "http://one.internal:8001/v1", weighted("http://two.internal:8002/v1", 0.5)
        assert found.replicas == (one, two)
        assert found.ttl == 300

    async def test_weights_of_zero_are_equal(self):
        async with nameserver() as server:
            server.records["_llama._tcp.internal", "SRV"] = ["0 0 1 a.", "0 0 2 b."]
            found = await look_up(by_dns(server, srv=SRV))
        assert found.replicas == ("http://a:1", "http://b:2")

    @pytest.mark.parametrize("records", [["0 0 1 ."], []])
    async def test_none_is_a_failure(self, records):
        async with nameserver() as server:
            server.records["_llama._tcp.internal", "SRV"] = records
            with pytest.raises(LookupFailedError):
                await look_up(by_dns(server, srv=SRV))


def settled(path, text):
    path.write_text(text)
    old = time.time() - 10
    os.utime(path, (old, old))
    return Discover(file=str(path))


class TestFiles:
    @pytest.mark.parametrize(
        "text",
        [
            '["http://10.0.0.1:8080", {"url": "http://10.0.0.2:8080", "weight": 2}]',
            "- http://10.0.0.1:8080\n- {url: http://10.0.0.2:8080, weight: 2}\n",
        ],
    )
    async def test_json_and_yaml(self, tmp_path, text):
        found = await look_up(settled(tmp_path / "replicas", text))
        assert found.replicas == (
            "http://10.0.0.1:8080",
            weighted("http://10.0.0.2:8080", 2.0),
        )

    async def test_nobody_is_a_word_like_any_other(self, tmp_path):
        assert (await look_up(settled(tmp_path / "replicas", "[]"))).replicas == ()

    @pytest.mark.parametrize(
        "text",
        [
            "",
            '["http://10.0.0.1:80',
            "- {url: http://10.0.0.1:8080, wei",
            "replicas: [http://10.0.0.1]",
            "[10.0.0.1]",
            "[{url: http://10.0.0.1, weight: 0}]",
            "[http://user:secret@10.0.0.1]",
            "\0",
        ],
    )
    async def test_half_a_file_and_nonsense_are_failures(self, tmp_path, text):
        with pytest.raises(LookupFailedError) as failed:
            await look_up(settled(tmp_path / "replicas", text))
        assert "secret" not in str(failed.value)

    async def test_one_that_is_not_there(self, tmp_path):
        with pytest.raises(LookupFailedError, match="cannot be read: No such file"):
            await look_up(Discover(file=str(tmp_path / "none")))

    async def test_one_that_is_too_large(self, tmp_path):
        with pytest.raises(LookupFailedError, match="more than"):
            await look_up(settled(tmp_path / "replicas", "#" * (2 << 20)))

    @pytest.mark.slow
    async def test_one_that_is_being_written_is_read_when_it_is_still(self, tmp_path):
        path = tmp_path / "replicas"
        path.write_text('["http://10.0.0.1"')
        look = asyncio.create_task(look_up(Discover(file=str(path))))
        await asyncio.sleep(0.1)
        assert not look.done()
        path.write_text('["http://10.0.0.1"]')
        assert (await look).replicas == ("http://10.0.0.1",)

    async def test_one_from_the_future_is_read_at_once(self, tmp_path):
        discover = settled(tmp_path / "replicas", "[http://10.0.0.1]")
        later = time.time() + 1000
        os.utime(discover.file, (later, later))
        assert (await look_up(discover)).replicas == ("http://10.0.0.1",)

    @pytest.mark.slow
    def test_deep_nonsense_is_no_crash(self):
        with pytest.raises(LookupFailedError):
            read_list(b"[" * 1200)


def test_one_that_is_told_twice_is_one():
    found = checked(["http://10.0.0.1:80/v1/", "http://10.0.0.1:80", "http://10.0.0.1:80/v1"])
    assert len(found.replicas) == 1


def test_what_is_no_base_url_is_a_failure():
    with pytest.raises(LookupFailedError, match="port"):
        checked(["http://10.0.0.1:99999"])
