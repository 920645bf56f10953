"""Finish reasons that are none: the engine ended the answer, but did not finish it."""

from __future__ import annotations

BROKEN_OFF = ("abort", "error")
"""Values of `finish_reason` with which vLLM and SGLang end an answer that they gave up."""
