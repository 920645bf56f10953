"""What the documents point at is there."""

from __future__ import annotations

import re

import pytest

from tests.docs.conftest import DOCUMENTS, ROOT, read

LINKED = [*DOCUMENTS, "docs/routing.md", "docs/benchmarks.md"]
"""The examples of the latter two are checked elsewhere, or cannot be run here."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FILE = re.compile(r"`((?:gateway|backends|tests|tools|deploy|docs|bench|models)/[\w./-]*)`")
_TARGET = re.compile(r"`make ([a-z-]+)`")


def _anchors(document: str) -> set[str]:
    """As GitHub makes them of headings."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in _HEADING.findall(read(document))
    }


@pytest.mark.parametrize("document", LINKED)
def test_links_lead_somewhere(document: str) -> None:
    for link in _LINK.findall(read(document)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("document", LINKED)
def test_files_that_are_named_exist(document: str) -> None:
    text = read(document)
    # What the design had and the code has not is told as such.
    text = text.split("## Where it differs from the first design")[0]
    missing = [name for name in _FILE.findall(text) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("document", LINKED)
def test_make_targets_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in _TARGET.findall(read(document)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
