"""A DNS server on loopback, whose records a test changes while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Nameserver(asyncio.DatagramProtocol):
    """Answers what is in `records`, and that there is no such name for all else."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Sequence[str]] = {}
        """By name, without the last dot, and type."""
        self.ttl = 300
        self.silent = False
        self.questions: list[tuple[str, str]] = []
        self.transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        assert self.transport is not None
        return "127.0.0.1:{}".format(self.transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        asked = (question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype))
        self.questions.append(asked)
        if self.silent:
            return
        answer = dns.message.make_response(query)
        found = self.records.get(asked)
        if found:
            kind = asked[1]
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *found))
        elif not any(name == asked[0] for name, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        assert self.transport is not None
        self.transport.sendto(answer.to_wire(max_size=65535), addr)


@contextlib.asynccontextmanager
async def nameserver() -> AsyncIterator[Nameserver]:
    """One that is there as long as the block runs."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        Nameserver, local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
