"""LoRA adapters on llama-server: found among its `--lora` files, and named in each request. Pure.

It loads adapters at its start only: `POST /lora-adapters` sets scales, for all requests at once,
and keeps what it has computed with the old ones. So each request says which one it wants. That
holds for the base too: `lora: []` means "as the server was started", and every `--lora` is
applied unless it was started at scale 0 (`--lora-init-without-apply` makes no difference there).
Ids that it does not know, and adapters that are not listed, count as scale 0.

Messages lose the field on their way into the server: with adapters that dialect is not asked for,
and the gateway asks for a chat instead.

A slot that changes adapters forgets its prompt. Not so the prompts that it has put by in memory
(`--cache-ram`): what one adapter computed is taken for another's. Therefore a server that may
have some is asked not to use what it has cached, unless it is known to run without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

import msgspec

from backends.base import Adapter, Endpoint, Request, RequestRefused
from backends.malformed import MALFORMED

CACHE_RAM = ("-cram", "--cache-ram")
"""How the user's arguments say what the server may put by."""

BASE = msgspec.Raw(b'[{"id":0,"scale":0}]')
"""No adapter at all, however the server was started."""

_FALSE = msgspec.Raw(b"false")
_IGNORING = (Endpoint.EMBEDDINGS, Endpoint.RERANK)
"""Endpoints at which the server does not look at `lora`."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class File(msgspec.Struct, frozen=True):
    """An adapter that the server has loaded."""

    id: int
    path: str


def read_files(body: bytes) -> tuple[File, ...]:
    """The answer of `/lora-adapters`. Raises `ValueError` where it is none."""
    try:
        return msgspec.json.decode(body, type=tuple[File, ...])
    except MALFORMED as error:
        raise ValueError(f"its list of adapters cannot be read: {error}") from None


def ids_of(known: Collection[Adapter], files: Sequence[File]) -> dict[Adapter, int]:
    """Those of `known` that are among `files`, each with its id.

    By the whole path; else by one as the end of the other, as of a server that was given a
    relative path, if no other file and no other adapter fits as well. A wrong one would answer
    in silence, so nothing is guessed.
    """
    exact = {file.path: file.id for file in files}
    found = {adapter: exact[adapter.path] for adapter in known if adapter.path in exact}
    taken = set(found.values())
    rest = [adapter for adapter in known if adapter not in found]
    pairs = [
        (adapter, file.id)
        for adapter in rest
        for file in files
        if file.id not in taken and _is_end(_parts(adapter.path), _parts(file.path))
    ]
    paths = {(adapter.path, file) for adapter, file in pairs}
    by_path = Counter(path for path, _ in paths)
    by_file = Counter(file for _, file in paths)
    found |= {
        adapter: file for adapter, file in pairs if by_path[adapter.path] == by_file[file] == 1
    }
    return found


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts


def _is_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    short, long = sorted((one, other), key=len)
    return long[-len(short) :] == short


def asking_for(request: Request, lora: int | None, *, cached: bool) -> Request:
    """`request` for the adapter with the id `lora`, or for none of them.

    `cached`: whether the server may go on from a prompt it has cached. Raises `RequestRefused`.
    """
    if request.endpoint is Endpoint.COUNT_TOKENS:
        return request  # the same tokens whoever answers
    if request.endpoint in _IGNORING:
        if lora is not None:
            raise RequestRefused(
                501,
                f"llama-server has no adapters at /v1/{request.endpoint}: ask for the model itself",
                param="model",
            )
        return request
    try:
        fields = _decode_fields(request.body)
    except MALFORMED:
        return request  # the engine has the words for what is wrong with it
    fields["lora"] = BASE if lora is None else msgspec.Raw(b'[{"id":%d,"scale":1}]' % lora)
    if not cached:
        fields["cache_prompt"] = _FALSE
    return msgspec.structs.replace(request, body=msgspec.json.encode(fields))


def arguments(adapters: Collection[Adapter], given: Collection[str] = ()) -> tuple[str, ...]:
    """What to add to the server's argv, beside the arguments `given`, so that it has `adapters`.

    Raises `ValueError` for a path that its `--lora-scaled` would take apart.
    """
    if not adapters:
        return ()
    for adapter in adapters:
        if "," in adapter.path or ":" in adapter.path:
            raise ValueError(f"llama-server takes no `,` or `:` in the path {adapter.path!r}")
    files = ",".join(f"{one.path}:0" for one in sorted(adapters, key=lambda one: one.name))
    put_by = () if puts_prompts_by_at_will(given) else ("--cache-ram", "0")
    return ("--lora-scaled", files, *put_by)


def puts_prompts_by_at_will(given: Collection[str]) -> bool:
    """Whether the user has said what the server may put by: that is not for us to know safe."""
    return any(argument.partition("=")[0] in CACHE_RAM for argument in given)
