"""Find out where the replicas of a backend are: by name, by the records of a service, in a file.

Whatever comes from outside is bounded and checked before it is a replica. What cannot be found, or
makes no sense, is a `LookupFailedError`: no news is not that there are none.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec
import yaml

from backends.base_url import parse_base
from backends.options import Discover, WeightedReplica
from backends.options.replicas import Url

if TYPE_CHECKING:
    from dns.resolver import Answer

MOST = 64
"""Replicas of one backend."""
_LARGEST_FILE = 64 << 10
_SETTLED = 0.5
"""Seconds for which a file must not have changed: it may still be being written."""
_LEAST_WEIGHT = 0.01

_EXAMPLE = '[http://10.0.0.1:8000, {url: "http://10.0.0.2:8000", weight: 2}]'

Entry = str | WeightedReplica


class LookupFailedError(Exception):
    """It could not be found out; the message says why."""


class Found(NamedTuple):
    """Where replicas are."""

    replicas: tuple[Entry, ...]
    """Each once, in an order that depends on nothing but themselves."""
    left_out: int = 0
    """How many more there are than may be."""
    ttl: float | None = None
    """Seconds for which that is true, where it is known."""


async def look_up(discover: Discover, threads: Executor | None = None) -> Found:
    """Ask whom `discover` names. Raises `LookupFailedError`; takes as long as it is let.

    The machine's own resolver is asked in one of `threads`, and cannot be interrupted there: one
    that hangs keeps it for as long, also where nobody waits any more.
    """
    if discover.file is not None:
        return checked(await _in_file(Path(discover.file)))
    if discover.srv is not None:
        answer = await _resolve(discover, urlsplit(discover.srv).hostname or "", "SRV")
        return checked(by_service(discover.srv, answer), answer.rrset.ttl if answer.rrset else 0)
    assert discover.dns is not None, "checked with the file"
    host = urlsplit(discover.dns).hostname or ""
    if discover.nameserver is None:
        return checked(by_address(discover.dns, await _addresses(host, threads)))
    return await _by_nameserver(discover, host)


def by_address(url: str, addresses: Iterable[str]) -> list[Entry]:
    """`url` with each of `addresses` for its host: IPv4 if there are any, else IPv6.

    A machine with both would be two replicas.
    """
    every = set(addresses)
    chosen = {one for one in every if ":" not in one} or every
    split = urlsplit(url)
    port = "" if split.port is None else f":{split.port}"
    hosts = (f"[{one}]" if ":" in one else one for one in chosen)
    return [f"{split.scheme}://{host}{port}{split.path}" for host in hosts]


class Service(NamedTuple):
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


def by_service(url: str, records: Iterable[object]) -> list[Entry]:
    """`url` with the target of each SRV record of the lowest priority for its host (RFC 2782)."""
    services = [
        Service(one.priority, one.weight, one.port, str(one.target).rstrip("."))  # type: ignore[attr-defined]
        for one in records
    ]
    services = [one for one in services if one.target]
    if not services:
        raise LookupFailedError("the service is told not to be there")
    first = min(one.priority for one in services)
    chosen = [one for one in services if one.priority == first]
    heaviest = max(one.weight for one in chosen)
    split = urlsplit(url)
    found: list[Entry] = []
    for one in chosen:
        place = f"{split.scheme}://{one.target}:{one.port}{split.path}"
        weight = max(_LEAST_WEIGHT, one.weight / heaviest) if heaviest else 1.0
        found.append(place if weight == 1 else WeightedReplica(url=place, weight=weight))
    return found


def url_of(entry: Entry) -> str:
    """Where it is."""
    return entry if isinstance(entry, str) else entry.url


def read_list(text: bytes) -> list[Entry]:
    """The replicas that a file lists, as under `replicas`. Raises `LookupFailedError`."""
    try:
        return msgspec.convert(yaml.safe_load(text), list[Url | WeightedReplica])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LookupFailedError(
            f"is neither YAML nor JSON: {' '.join(str(error).split())}"
        ) from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise LookupFailedError(f"is no list of replicas such as {_EXAMPLE}: {error}") from None


def checked(entries: Sequence[Entry], ttl: float | None = None) -> Found:
    """`entries` without doubles and beyond the bound. Raises `LookupFailedError`."""
    by_base: dict[object, Entry] = {}
    for entry in entries:
        try:
            by_base.setdefault(parse_base(url_of(entry)), entry)
        except ValueError as error:
            raise LookupFailedError(str(error)) from None
    every = sorted(by_base.values(), key=url_of)
    return Found(tuple(every[:MOST]), max(0, len(every) - MOST), ttl)


async def _addresses(host: str, threads: Executor | None) -> list[str]:
    ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        infos = await asyncio.get_running_loop().run_in_executor(threads, ask)
    except (OSError, UnicodeError) as error:
        raise LookupFailedError(f"{host} is not found: {error}") from None
    return [str(address[0]).partition("%")[0] for *_, address in infos]


async def _by_nameserver(discover: Discover, host: str) -> Found:
    assert discover.dns is not None, "whoever calls this has looked"
    try:
        answer = await _resolve(discover, host, "A")
    except LookupFailedError:
        answer = await _resolve(discover, host, "AAAA")
    ttl = answer.rrset.ttl if answer.rrset else 0
    return checked(by_address(discover.dns, (one.address for one in answer)), ttl)


async def _resolve(discover: Discover, name: str, kind: str) -> Answer:
    from dns.asyncresolver import Resolver  # noqa: PLC0415 — an extra
    from dns.exception import DNSException  # noqa: PLC0415

    try:
        resolver = Resolver(configure=discover.nameserver is None)
        if discover.nameserver is not None:
            split = urlsplit(f"//{discover.nameserver}")
            resolver.nameservers, resolver.port = [split.hostname or ""], split.port or 53
        return await resolver.resolve(name, kind, search=discover.nameserver is None)
    except (DNSException, OSError, ValueError) as error:
        raise LookupFailedError(f"{name} has no {kind} records: {error}") from None


async def _in_file(path: Path) -> list[Entry]:
    try:
        while (wait := _SETTLED - await asyncio.to_thread(_age, path)) > 0:
            await asyncio.sleep(wait)
        text = await asyncio.to_thread(_read, path)
    except OSError as error:
        raise LookupFailedError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return await asyncio.to_thread(read_list, text)
    except LookupFailedError as error:
        raise LookupFailedError(f"{path} {error}") from None


def _age(path: Path) -> float:
    """Seconds since it was written; one from the future, by a clock that was set, is old."""
    age = time.time() - path.stat().st_mtime
    return age if age >= 0 else _SETTLED


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_LARGEST_FILE + 1)
    if len(text) > _LARGEST_FILE:
        raise LookupFailedError(f"{path} has more than {_LARGEST_FILE} bytes")
    return text
