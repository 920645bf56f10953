"""llama-cpp-python, imported; what it does to the process is undone.

Rules of this file:

- llama.cpp writes to stderr through one callback for the whole process. It is ours from the first
  import on, and never taken back: a callback that is gone would be called all the same.
- What it says while a model is loaded is kept, because its functions only tell that they failed.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backends.inprocess.failures import failed

logger = logging.getLogger(__name__)

_WARN, _ERROR, _CONTINUED = 3, 4, 5
"""ggml's levels: warning, error, and more of the line before."""
_LEVELS = {_WARN: logging.WARNING, _ERROR: logging.ERROR}
"""The rest is of interest to who looks for a mistake only."""
_KEPT = 20
"""Lines of a load that are kept."""


def import_llama_cpp() -> Any:
    """The package, with its lines going to logging; raises `BackendError`."""
    try:
        import llama_cpp  # noqa: PLC0415 — imported when a configuration names it
    except (ImportError, OSError, RuntimeError) as error:  # its library may not load either
        raise failed(
            f"llama.cpp is not installed ({error}); install it with: pip install "
            "llama-cpp-python jinja2 llguidance (which is what the gateway's extra `llama-cpp` "
            "does; it compiles llama.cpp, which takes some minutes and a C++ compiler)"
        ) from error
    llama_cpp.llama_log_set(_LOG_CALLBACK, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


class _Lines:
    """Puts together what llama.cpp says in pieces, and hands on whole lines.

    One for the process, as the callback is. Called from any of llama.cpp's threads: nothing may be
    raised, and what is begun and kept is each thread's own. It waits for nothing but logging.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def kept(self) -> Iterator[deque[str]]:
        """What is said in this thread from warnings up, as long as the context is entered."""
        self._local.kept = kept = deque[str](maxlen=_KEPT)
        try:
            yield kept
        finally:
            self._local.kept = None

    def take(self, level: int, text: bytes) -> None:
        """A piece, which ends with the end of a line or not."""
        local = self._local
        begun: str = getattr(local, "begun", "")
        if level != _CONTINUED:
            self._line(getattr(local, "level", level), begun)
            begun, local.level = "", level
        begun += text.decode(errors="replace")
        *lines, local.begun = begun.split("\n")
        for line in lines:
            self._line(local.level, line)

    def _line(self, level: int, line: str) -> None:
        if not (line := line.strip()):
            return
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line)
        kept = getattr(self._local, "kept", None)
        if kept is not None and level in _LEVELS:
            kept.append(line)


_LINES = _Lines()  # its owner is llama.cpp, which calls it for as long as the process lives
lines_kept = _LINES.kept


def _take(level: int, text: bytes, user_data: object) -> None:  # noqa: ARG001 — C's signature
    _LINES.take(level, text)


_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_take)
