"""`use: openai`."""

from __future__ import annotations

import msgspec

from backends.base import Backend
from backends.options.base import Options
from backends.options.http import HttpOptions
from backends.options.replicas import Replicas, WeightedReplica


class OpenAIOptions(HttpOptions, frozen=True, kw_only=True, tag="openai"):
    """Any server that speaks the OpenAI API."""

    replicas: Replicas = ()
    """Base URLs, one per replica; a trailing `/v1` is optional. One that can take more than the
    others is written `{url: …, weight: 2}`."""

    @property
    def listed(self) -> tuple[str | WeightedReplica, ...]:
        """See `HttpOptions.listed`."""
        return self.replicas

    def engine(self) -> Options:
        """See `Options.engine`. How much goes where is no business of the engines."""
        return msgspec.structs.replace(self._unplaced(), replicas=self.urls)

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        from backends.openai_http import OpenAIHttpBackend  # noqa: PLC0415

        return OpenAIHttpBackend(name, self)
