"""The real gateway as a child process, from the text of a routing.yaml."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.support.children import Child, Children
from tests.support.engines import sample

ROOT = Path(__file__).parents[2]
_START_TIME = 60.0
_ANNOUNCEMENT = re.compile(r"ready: base_url=http://([\d.]+):(\d+)/v1")
TIMEOUT = 60.0
"""Seconds that a client waits for anything: far beyond what an answer takes."""


class GatewayProcess:
    """A gateway that serves `text` on a free port of the loopback."""

    def __init__(
        self,
        children: Children,
        folder: Path,
        text: str,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        file: str = "routing.yaml",
    ) -> None:
        """Start it; later `args` win. `file` may be another than the one written. Not ready yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self._children = children
        self.file = folder / "routing.yaml"
        self.file.write_text(text, encoding="utf-8")
        argv = [sys.executable, "-m", "gateway", "serve", folder / file, "--port", "0", *args]
        where = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.child = Child("gateway", argv, folder, env={**os.environ, **where, **(env or {})})
        children.add(self.child)
        self.host, self.port = "", 0

    @property
    def root(self) -> str:
        """`http://host:port`."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.root}/v1"

    def wait_ready(self) -> None:
        """Until it announces its address. Raises with its log where it ends first."""
        self.child.wait_for(
            lambda: _ANNOUNCEMENT.search(self.child.log()), _START_TIME, "it does not announce"
        )
        found = _ANNOUNCEMENT.search(self.child.log())
        assert found is not None
        self.host, self.port = found[1], int(found[2])

    def wait_model(
        self, name: str, state: str = "ready", timeout: float = 20, key: str | None = None
    ) -> None:
        """Until `/ready` says `state` of the model `name`; where keys are set it wants one."""
        self.child.wait_for(
            lambda: self.ready(key)[1]["models"].get(name, "").startswith(state),
            timeout,
            f"the model {name} is not {state!r}",
        )

    def openai(self, **options: Any) -> OpenAI:
        """A client that never retries by itself: what the gateway does must show."""
        return OpenAI(**self._options(options))

    def async_openai(self, **options: Any) -> AsyncOpenAI:
        """The same, asynchronous."""
        return AsyncOpenAI(**self._options(options))

    def anthropic(self, **options: Any) -> Anthropic:
        """Anthropic's client, which adds `/v1` itself."""
        return Anthropic(**{**self._options(options), "base_url": self.root})

    def async_anthropic(self, **options: Any) -> AsyncAnthropic:
        """The same, asynchronous."""
        return AsyncAnthropic(**{**self._options(options), "base_url": self.root})

    def ready(self, key: str | None = None) -> tuple[int, Any]:
        """What `/ready` answers, to the holder of `key` where there is one."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        status, _, body = self.request("GET", "/ready", headers=headers)
        return status, json.loads(body)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        content = None if body is None else json.dumps(body).encode()
        try:
            connection.request(
                method, path, content, {"content-type": "application/json", **(headers or {})}
            )
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that carry `labels`."""
        return sample(self.request("GET", "/metrics")[2].decode(), name, **labels)

    def outstanding(self) -> int:
        """Attempts that run on any replica now."""
        return int(self.metric("gateway_replica_outstanding"))

    def access_lines(self) -> list[dict[str, Any]]:
        """The access log so far; it is written within a tenth of a second."""
        text = self.child.out.read_text("utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_log(self, text: str, timeout: float = 10) -> None:
        """Until `text` stands in its log."""
        self.child.wait_for(lambda: text in self.child.log(), timeout, f"it does not say {text!r}")

    def rewrite(self, text: str) -> None:
        """Save another routing.yaml, in one step, as editors do."""
        draft = self.file.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.file)

    def terminate(self) -> None:
        """SIGTERM."""
        self.child.send(signal.SIGTERM)

    def hangup(self) -> None:
        """SIGHUP."""
        self.child.send(signal.SIGHUP)

    def stop(self) -> None:
        """End it without letting it drain."""
        if self.child.exit_code is None:
            self.child.kill()
        self._children.discard(self.child)

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "api_key": "none",
            "max_retries": 0,
            "timeout": TIMEOUT,
            **options,
        }
