"""Importing MLX when a model is loaded, and not before; without what that does to the process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from backends.inprocess.failures import failed

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_SETRLIMIT = getattr(resource, "setrlimit", None)
_SET_BY_MLX_VLM = ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRANSFORMERS_VERBOSITY")


def import_mlx() -> None:
    """Import MLX and mlx-lm, without what they do to the process; raises `BackendError`."""
    try:
        with _open_files_limit_kept(), _one_style_of_log():
            import llguidance  # noqa: F401, PLC0415
            import mlx_lm  # noqa: F401, PLC0415
    except ImportError as error:
        packages = "mlx-lm llguidance"
        if sys.platform != "darwin":
            packages += " 'mlx[cpu]'"
        raise failed(
            f"MLX is not installed ({error}); install it with: pip install {packages} "
            "(which is what the gateway's extra `mlx` does)"
        ) from error


@contextmanager
def environment_kept() -> Iterator[None]:
    """Keep the variables that mlx-vlm sets when it is imported out of this process's environment.

    They would silence what transformers has to say, here and in every engine that is started.
    """
    before = {name: os.environ.get(name) for name in _SET_BY_MLX_VLM}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _open_files_limit_kept() -> Iterator[None]:
    """Keep mlx-lm from lowering the process's limit on open files when it is imported.

    It sets 2048/4096, a gateway needs a descriptor per connection, and a lowered hard limit
    cannot be raised again without privileges: so the call has to be kept from happening.
    """
    if resource is None:
        yield
        return
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        # What is put back was saved before anybody could replace it: two engines may load at once.
        resource.setrlimit = _SETRLIMIT  # type: ignore[assignment]


@contextmanager
def _one_style_of_log() -> Iterator[None]:
    """Have what transformers logs in the process's own style, and its advice at import not at all.

    It gives its logger a handler of its own. What it advises is to install PyTorch.
    """
    log = logging.getLogger("transformers")
    log.addFilter(_nothing)
    try:
        yield
    finally:
        log.removeFilter(_nothing)
        for handler in tuple(log.handlers):
            log.removeHandler(handler)
        log.propagate = True


def _nothing(_: logging.LogRecord) -> bool:
    return False
