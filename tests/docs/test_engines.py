"""The table of docs/engines.md says what the code claims, word for word."""

from __future__ import annotations

import ast
from itertools import pairwise

from backends.base import Backend
from backends.capabilities import Capability
from backends.llama_cpp.backend import LlamaCppBackend
from backends.llama_server.backend import LlamaServerBackend
from backends.mlx.backend import MlxBackend
from backends.openai_http import OpenAIHttpBackend
from backends.vllm import VllmBackend
from gateway.dispatch.ability import lacks
from tests.docs.conftest import ROOT, read

KINDS: dict[str, type[Backend]] = {
    "mlx": MlxBackend,
    "llama_cpp": LlamaCppBackend,
    "llama_server": LlamaServerBackend,
    "vllm": VllmBackend,
    "openai": OpenAIHttpBackend,
}


def _meanings() -> dict[str, str]:
    """What stands under each capability in the code."""
    source = (ROOT / "backends" / "capabilities.py").read_text("utf-8")
    (members,) = [node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found = {}
    for node, after in pairwise(members):
        match node, after:
            case (
                ast.Assign(value=ast.Constant(value=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[str(name)] = " ".join(text.split())
    return found


def _cell(kind: type[Backend], capability: Capability) -> str:
    backend = object.__new__(kind)  # what it claims is known without a model, or an address
    if capability not in backend.capabilities:
        return "no" if lacks(backend, frozenset({capability})) else "translated"
    if kind is OpenAIHttpBackend:
        return "asked"
    return "depends" if capability in backend.conditional else "yes"


def _table() -> str:
    meanings = _meanings()
    rows = [["", "a request asks for it by", *(f"`{kind}`" for kind in KINDS)]]
    rows.append(["---"] * len(rows[0]))
    rows += [
        [f"`{one}`", meanings[one], *(_cell(kind, one) for kind in KINDS.values())]
        for one in Capability
    ]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def test_every_capability_says_what_it_is() -> None:
    assert set(_meanings()) == set(Capability)


def test_the_table_is_what_the_code_claims() -> None:
    assert _table() in read("docs/engines.md"), f"docs/engines.md should have:\n{_table()}"
