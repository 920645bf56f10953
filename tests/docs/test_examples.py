"""What the documents show is what happens: every example is run, against a real gateway.

`python` and `bash` blocks run with the port of that gateway in place of 8088; a `text` block right
after one is its output. `yaml` blocks are loaded as routing.yaml. `console` blocks are for what
cannot be run here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway import config
from tests.docs.conftest import DOCUMENTS, ROOT, Block, blocks, read
from tests.support.children import Children
from tests.support.engines import MODEL_DIR
from tests.support.gateway import GatewayProcess

_TALE = f"""
server: {{port: 0}}
backends:
  tale: {{use: mlx, model: {MODEL_DIR}}}
models:
  tiny-tale: {{backend: tale}}
"""
_FENCE = re.compile(r"^```(.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)")
_WHOLE = {"backends": {"b": {"use": "openai", "replicas": ["http://h:1"]}}}


@pytest.fixture(scope="module")
def tale(children: Children, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway as `make serve` starts it, but on a free port."""
    gateway = GatewayProcess(children, tmp_path_factory.mktemp("docs"), _TALE)
    gateway.wait_ready()
    yield gateway
    gateway.stop()


def _run(block: Block, gateway: GatewayProcess, folder: Path) -> None:
    """Run a block; its output must be the one that the document shows."""
    text = block.text.replace("localhost:8088", f"{gateway.host}:{gateway.port}")
    # curl ends well whatever the status is; here an error must show.
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n", encoding="utf-8")
    shell = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        [sys.executable, "-c", text] if block.language == "python" else shell,
        cwd=folder,
        env={**os.environ, "CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.strip()
    if block.output is not None:
        assert done.stdout.strip() == block.output.strip()


@pytest.mark.parametrize("block", blocks("python", "bash"), ids=lambda block: block.name)
def test_it_runs(block: Block, tale: GatewayProcess, tmp_path: Path) -> None:
    _run(block, tale, tmp_path)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_it_is_a_configuration(block: Block, tmp_path: Path) -> None:
    text = block.text
    for name, rest in ("backends", _WHOLE), ("models", {"models": {"m": {"backend": "b"}}}):
        if name not in yaml.safe_load(block.text):
            text += yaml.safe_dump(rest)
    path = tmp_path / "routing.yaml"
    path.write_text(text, encoding="utf-8")
    config.load(path, dict.fromkeys(_VARIABLE.findall(text), "a-secret-value"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_what_it_is(document: str) -> None:
    opened = _FENCE.findall(read(document))[::2]
    known = {"python", "bash", "text", "yaml", "console", "json"}
    unnamed = [kind for kind in opened if kind not in known]
    # A picture of the folders is no example.
    assert unnamed == ([""] if document == "docs/architecture.md" else [])


def test_the_first_screen_starts_what_is_run_here() -> None:
    assert "make serve" in read("README.md")[:1500]
    shipped = config.load(ROOT / "routing.yaml", {})
    assert (shipped.server.host, shipped.server.port) == ("127.0.0.1", 8088)
    assert list(shipped.models) == ["tiny-tale"]
