"""Finding a GGUF model and loading it. The one place that knows what differs between machines.

What differs: where llama.cpp was built with a GPU's backend (Metal on Apple Silicon), layers can
be computed there; how much of a prompt is read at a time depends on that, too.
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.base import BackendError
from backends.inprocess.failures import failed, said
from backends.inprocess.loading import Loading
from backends.llama_cpp.gguf_header import GgufError, GgufHeader, parts, read_header
from backends.llama_cpp.library import import_llama_cpp, lines_kept
from backends.llama_cpp.memory import context_of, footprint_of
from backends.memory import machine_memory, process_memory, refusal_beside

if TYPE_CHECKING:
    from backends.inprocess.runtime import Runtime
    from backends.options import LlamaCppOptions

logger = logging.getLogger(__name__)

ALL_LAYERS = -1


class Model:
    """A loaded model: llama.cpp's own objects, freed when nobody holds this one any more.

    Whoever uses a pointer of it holds it: prompts are made in other threads than the engine's.
    """

    def __init__(self, library: Any, pointer: Any, header: GgufHeader) -> None:
        self.library = library
        self.pointer = pointer
        self.header = header
        self.vocab = library.llama_model_get_vocab(pointer)
        free = weakref.finalize(self, library.llama_model_free, pointer)
        free.atexit = False  # an engine's thread may still compute when the process ends

    @property
    def causal(self) -> bool:
        """Whether a token sees only what stands before it."""
        return self.header.of_model("attention.causal") is not False

    @property
    def generates(self) -> bool:
        """Whether it can write text. The others make embeddings."""
        return self.causal and bool(self.library.llama_model_has_decoder(self.pointer))

    def template(self, name: str | None = None) -> str | None:
        """The chat template that the file brings under `name`, or its only one."""
        found = self.library.llama_model_chat_template(self.pointer, name and name.encode())
        return None if found is None else found.decode(errors="replace")


def load(options: LlamaCppOptions, loading: Loading | None = None) -> Runtime:
    """The model that `options` name, ready to generate; blocks for as long as that takes.

    Call it in the thread that shall generate. Raises `BackendError`.
    """
    loading = loading or Loading(options.model)
    path = locate(options.model)
    header = header_of(path)
    needed = footprint_of(path, header, context=options.context, max_batch=options.max_batch)
    # llama.cpp ends the process where it gets no memory.
    why = refusal_beside(process_memory(), {path.name: needed}, machine_memory())
    if why is not None:
        raise failed(why)
    library = import_llama_cpp()
    from backends.llama_cpp.embedding_runtime import EmbeddingRuntime  # noqa: PLC0415 — as above
    from backends.llama_cpp.runtime import LlamaCppRuntime, Settings  # noqa: PLC0415 — as above

    layers = gpu_layers(options.n_gpu_layers, offloads=library.llama_supports_gpu_offload())
    settings = Settings(
        context=context_of(header, options.context),
        max_batch=options.max_batch,
        threads=options.threads or physical_cores(),
        prefill=prefill_step(on_gpu=layers != 0),
        tool_parser=options.tool_parser,
        reasoning_parser=options.reasoning_parser,
        pooling=options.pooling,
    )
    loading.begin(options.model, header.nbytes, needed.total)
    try:
        model = _open(library, path, header, layers, loading)
        made = LlamaCppRuntime if model.generates else EmbeddingRuntime
        runtime = made(model, settings)
    except BackendError:
        raise
    except Exception as error:  # from the binding, or the model's own template
        raise failed(f"the GGUF model {path} cannot be loaded: {said(error)}") from error
    if options.context is not None:
        made_for = header.count("context_length") or None
        loading.context(runtime.context, asked=options.context, made_for=made_for)
    return runtime


def locate(model: str) -> Path:
    """The file called `model`, which must be a GGUF file; raises `BackendError`."""
    path = Path(model).expanduser()
    if path.is_dir():
        files = sorted(found.name for found in path.glob("*.gguf"))
        if any(path.glob("*.safetensors")):
            raise failed(
                f"{path} holds safetensors, and llama.cpp reads GGUF; serve it with `use: mlx` or "
                f"`use: vllm`{_or_name(files)}"
            )
        raise failed(f"{path} is a directory; name a .gguf file{_or_name(files)}")
    if not path.exists():
        raise failed(f"there is no file {model}; `use: llama_cpp` wants the path of a .gguf file")
    return path


def header_of(path: Path) -> GgufHeader:
    """What the file says of its model; raises `BackendError` where it is no model."""
    try:
        header = read_header(path)
    except GgufError as error:
        raise failed(f"{path} is no GGUF model: {error}") from None
    except OSError as error:
        raise failed(f"{path} cannot be read: {said(error)}") from None
    kind = header.metadata.get("general.type", "model")
    if kind != "model" or not header.architecture:
        raise failed(f"{path} holds no model, but {kind!r}: name the file with the model itself")
    return header


def gpu_layers(wanted: int | None, *, offloads: bool) -> int:
    """How many layers to compute on a GPU; -1 for all.

    `offloads` says whether llama.cpp was built for one. All of them on Apple Silicon, and wherever
    it can, unless something else is asked for.
    """
    if offloads:
        return ALL_LAYERS if wanted is None else wanted
    apple_silicon = sys.platform == "darwin" and platform.machine() == "arm64"
    if wanted or (wanted is None and apple_silicon):
        logger.warning(
            "this llama-cpp-python was built without a GPU backend: all layers are computed on "
            "the CPU%s",
            "; build it anew with CMAKE_ARGS=-DGGML_METAL=on" if apple_silicon else "",
        )
    return 0


def prefill_step(*, on_gpu: bool) -> int:
    """Prompt tokens to read between two steps of the batch.

    So long a long prompt holds up the next token of the others, and the cancelling of anything. A
    GPU needs many at once to be busy; a CPU is with 64 as fast as with more.
    """
    return 512 if on_gpu else 64


def physical_cores() -> int:
    """Cores that this process may use, each counted once however many threads it runs.

    Two threads of one core get in each other's way here: both want its vector units all the time.
    """
    if sys.platform == "darwin":
        for name in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            command = ["/usr/sbin/sysctl", "-n", name]
            told = subprocess.run(command, capture_output=True, check=False, timeout=5)  # noqa: S603
            if told.returncode == 0:
                return max(1, int(told.stdout))
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(file.read_text() if file.is_file() else str(cpu))
    return max(1, len(siblings))


def _or_name(files: list[str]) -> str:
    return f", or name one of its GGUF files: {', '.join(files[:3])}" if files else ""


def _open(library: Any, path: Path, header: GgufHeader, layers: int, loading: Loading) -> Model:
    def reached(share: float, _: object) -> bool:
        loading.reached(round(share * header.nbytes), header.nbytes)
        return True  # go on

    params = library.llama_model_default_params()
    params.n_gpu_layers = layers
    params.progress_callback = library.llama_progress_callback(reached)
    with lines_kept() as lines:
        if len(files := parts(path)) > 1:
            names = [str(file).encode() for file in files]
            array = (library.ctypes.c_char_p * len(names))(*names)
            pointer = library.llama_model_load_from_splits(array, len(names), params)
        else:
            pointer = library.llama_model_load_from_file(str(path).encode(), params)
    if not pointer:
        raise failed(
            f"the GGUF model {path} cannot be loaded: "
            f"{'; '.join(lines) or 'llama.cpp does not say why'}"
        )
    return Model(library, pointer, header)
