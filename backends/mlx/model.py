"""Finding a model and loading it. The one place that knows what differs between machines.

What differs: on Apple Silicon MLX computes on the GPU through Metal, and mlx-lm's batch
generator wires its memory; elsewhere the CPU computes, and `mlx[cpu]` brings the kernels. That
decides how much of a prompt is read at a time, and how weights lie in memory. Nothing outside this
file knows how to tell which one it is.
"""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.base import BackendError
from backends.inprocess.failures import failed, said
from backends.inprocess.loading import Loading
from backends.memory import Footprint, machine_memory, refusal_beside
from backends.mlx.adapter_files import BadAdapter
from backends.mlx.importing import import_mlx
from backends.mlx.memory import MemoryPlan, Wishes, plan, read_config
from backends.mlx.safetensors_header import read_headers
from backends.mlx.vision.family import EXTRA, PROCESSOR_FILES, Way, choose, longest_step
from backends.mlx.vision.memory import PictureMemory, picture_memory

if TYPE_CHECKING:
    from backends.inprocess.runtime import Runtime

_GPU_STEP, _CPU_STEP = 512, 64
_GPU_PIXELS, _CPU_PIXELS = 1 << 22, 1 << 20
HUB_TIMEOUT = 10.0
"""Seconds until the hub must have said that it knows a model."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PARTS = {
    "config.json": ("config.json",),
    "weights": ("model*.safetensors",),
    "tokenizer": ("tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.*"),
}
"""What a model cannot do without, and the files it may be in."""
_LONGEST_REASON = 300
_FILES = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja"]


def load(
    model: str,
    *,
    max_batch: int,
    context: int | None = None,
    kv_cache: int | None = None,
    prompt_cache: int | None = None,
    adapters: tuple[str, ...] = (),
    tool_parser: str = "auto",
    reasoning_parser: str = "auto",
    pooling: str = "auto",
    loading: Loading | None = None,
) -> Runtime:
    """The model called `model`, ready to generate; blocks for as long as that takes.

    Call it in the thread that shall generate: MLX's streams belong to threads. `adapters` are not
    loaded yet, but there is room for them. Raises `BackendError`.
    """
    loading = loading or Loading(model)
    import_mlx()
    from backends.mlx.runtime import MlxRuntime  # noqa: PLC0415 — imports MLX

    directory = locate(model, loading)
    wishes = Wishes(
        max_batch=max_batch,
        context=context,
        kv_cache=kv_cache,
        prompt_cache=prompt_cache,
        adapters=adapters,
    )
    try:
        way = way_of(directory)
        if way.objection is not None:
            raise failed(f"{directory}: {way.objection}")
        on_cpu = computes_on_cpu()
        planned = _plan(directory, wishes, way, on_cpu=on_cpu)
        _check_fits(model, planned.footprint)
        loading.begin(model, planned.footprint.weights, planned.footprint.total)
        runtime = MlxRuntime(
            directory,
            way=way,
            pictures=_pictures(directory, way, on_cpu=on_cpu),
            plan=planned,
            wishes=wishes,
            memory=memory_limit() - _held(),
            tool_parser=tool_parser,
            reasoning_parser=reasoning_parser,
            pooling=pooling,
            loading=loading,
        )
    except BackendError:
        raise
    except BadAdapter as error:
        raise failed(f"an adapter cannot be used: {error}") from error
    except Exception as error:  # from MLX, mlx-lm, tokenizers or the model's own files
        raise failed(
            f"the MLX model in {directory} cannot be loaded: {_in_short(error)}"
        ) from error
    loading.context(runtime.context, asked=context, made_for=planned.made_for)
    return runtime


def footprint(
    model: str,
    *,
    max_batch: int,
    context: int | None = None,
    kv_cache: int | None = None,
    prompt_cache: int | None = None,
    adapters: tuple[str, ...] = (),
) -> Footprint | None:
    """What `model` will take of the memory, from its files; None where they are not here.

    Neither imports MLX nor fetches anything. Raises `ValueError` or `OSError` for broken ones.
    """
    directory = _at_hand(model)
    if directory is None:
        return None
    wishes = Wishes(
        max_batch=max_batch,
        context=context,
        kv_cache=kv_cache,
        prompt_cache=prompt_cache,
        adapters=adapters,
    )
    on_cpu = sys.platform != "darwin"
    return _plan(directory, wishes, way_of(directory), on_cpu=on_cpu).footprint


def _plan(directory: Path, wishes: Wishes, way: Way, *, on_cpu: bool) -> MemoryPlan:
    pictures = _pictures(directory, way, on_cpu=on_cpu)
    return plan(
        directory,
        wishes,
        memory=memory_limit(),
        step=longest_step(way.family, read_config(directory), _CPU_STEP if on_cpu else _GPU_STEP),
        pictures=pictures.total if pictures is not None else 0,
    )


def _pictures(directory: Path, way: Way, *, on_cpu: bool) -> PictureMemory | None:
    """What looking at pictures takes; None for a model that is blind."""
    if way.family is None:
        return None
    return picture_memory(
        way.family,
        read_config(directory),
        _image_processor(directory),
        memory=memory_limit(),
        most_pixels=_CPU_PIXELS if on_cpu else _GPU_PIXELS,
        scores=on_cpu,
    )


def _image_processor(directory: Path) -> dict[str, Any]:
    """What the model says of its image processor: in a file of its own, in that of all its
    processors (transformers 5), or in both, of which the second counts for mlx-vlm."""
    alone, every = (read_json(directory / name) for name in PROCESSOR_FILES)
    inner = every.get("image_processor")
    return {**alone, **inner} if isinstance(inner, dict) else alone


def objection(model: str) -> str | None:
    """What keeps `model` from being loaded, from its files; None where nothing does.

    Fetches nothing, and imports MLX only for a `model_type` that no file of mlx-lm is called after.
    """
    path = Path(model).expanduser()
    try:
        directory = _checked(path) if path.exists() else _at_hand(model)
        if directory is None:
            return None  # it will be fetched, and looked at then
        why = way_of(directory).objection
    except BackendError as error:
        return error.message
    except (ValueError, OSError) as error:
        return str(error)
    return None if why is None else f"{directory}: {why}"


def way_of(directory: Path) -> Way:
    """How the model in `directory` is loaded. Raises `ValueError`, `OSError`.

    Imports MLX only for a `model_type` that no file of mlx-lm is called after, and mlx-vlm never.
    """
    config = read_config(directory)
    kind = config.get("model_type")
    return choose(
        config,
        tensors=read_headers(directory) if "vision_config" in config else (),
        files={path.name for path in directory.iterdir()},
        reads_text=isinstance(kind, str)
        and (_is_known(kind) or (directory / "model.py").is_file()),
        installed=find_spec(EXTRA.replace("-", "_")) is not None,
    )


def _is_known(kind: str) -> bool:
    """Whether mlx-lm has that kind of model; True where it is not installed: that is said later."""
    spec = find_spec("mlx_lm")
    if spec is None or not spec.submodule_search_locations:
        return True
    models = Path(spec.submodule_search_locations[0]) / "models"
    if kind.isidentifier() and (models / f"{kind}.py").is_file():
        return True
    import_mlx()
    from mlx_lm import utils  # noqa: PLC0415 — as above

    return kind in utils.MODEL_REMAPPING


def memory_limit() -> int:
    """Bytes that models may take of this machine.

    On Apple Silicon memory is unified, and Metal says how much of it the GPU may keep in use
    without paging; that is less than all of it.
    """
    memory = machine_memory()
    if sys.platform != "darwin":
        return memory
    try:
        import mlx.core as mx  # noqa: PLC0415 — only to ask Metal

        recommended = int(mx.device_info()["max_recommended_working_set_size"])
    except (ImportError, KeyError, RuntimeError):
        recommended = memory * 3 // 4
    return min(memory, recommended)


def _check_fits(model: str, footprint: Footprint) -> None:
    """Refuse what does not fit beside what MLX has loaded already; raises `BackendError`."""
    if (why := refusal_beside(_held(), {model: footprint}, memory_limit())) is not None:
        raise failed(why)


def _held() -> int:
    """Bytes that MLX has in this process by now."""
    import mlx.core as mx  # noqa: PLC0415 — imported when a model is loaded

    return int(mx.get_active_memory())


def _in_short(error: Exception) -> str:
    """What an error says, in one line: libraries list every tensor that they miss."""
    line = " ".join(said(error).split())
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + " …"


def _at_hand(model: str) -> Path | None:
    """The directory of `model` if it is on this machine."""
    path = Path(model).expanduser()
    try:
        if path.exists():
            return _checked(path)
        return _cached(model) if _HUB_ID.fullmatch(model) else None
    except BackendError:
        return None


def locate(model: str, loading: Loading | None = None, *, endpoint: str | None = None) -> Path:
    """The directory of `model`, fetched from the hub where it is a hub id.

    `endpoint` is the hub's base URL, the public one by default. Raises `BackendError`.
    """
    path = Path(model).expanduser()
    if path.exists():
        return _checked(path)
    if not _HUB_ID.fullmatch(model):
        raise failed(f"there is no directory {model}, and that is no hub id (owner/name) either")
    return _checked(_fetch(model, loading or Loading(model), endpoint))


def _checked(path: Path) -> Path:
    """`path`, if an MLX model can be in it."""
    if path.suffix == ".gguf" or (path.is_dir() and _only_gguf(path)):
        raise failed(
            f"{path} holds a GGUF model, and MLX reads safetensors; serve it with "
            "`use: llama_cpp` or `use: llama_server`, or name a directory with config.json and "
            "model*.safetensors"
        )
    if not path.is_dir():
        raise failed(f"{path} is a file; name the directory that holds config.json")
    for what, patterns in _PARTS.items():
        if not any(any(path.glob(pattern)) for pattern in patterns):
            names = "" if patterns == (what,) else f" ({', '.join(patterns)})"
            raise failed(f"{path} is no MLX model: it has no {what}{names}")
    return path


def _only_gguf(path: Path) -> bool:
    return any(path.glob("*.gguf")) and not any(path.glob("*.safetensors"))


def _fetch(model: str, loading: Loading, endpoint: str | None) -> Path:
    """The hub's files, from its cache if they are there, else over the network."""
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415 — comes with mlx-lm
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    if (cached := _cached(model)) is not None:
        return cached
    disable_progress_bars()
    try:
        # Asked first and once: a download retries for minutes when there is no network.
        hub = HfApi(endpoint=endpoint)
        info = hub.model_info(model, timeout=HUB_TIMEOUT, files_metadata=True)
        files = [file for file in info.siblings or () if _is_wanted(file.rfilename)]
        loading.fetch(model, sum(file.size or 0 for file in files))
        return Path(snapshot_download(model, allow_patterns=_FILES, endpoint=endpoint))
    except Exception as error:  # from the hub's client or the HTTP client below it
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise failed(
            f"there is no directory {model}, and as a hub id it cannot be fetched: {reason}. "
            f"Fetch it where there is a network with `hf download {model}`, "
            "or name a directory that holds the model"
        ) from error


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _FILES)


def _cached(model: str) -> Path | None:
    """Where the hub's cache has `model`."""
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 — comes with mlx-lm

        return Path(snapshot_download(model, allow_patterns=_FILES, local_files_only=True))
    except Exception:  # not installed, or not in the cache, whatever it calls that
        return None


def prefill_step() -> int:
    """Prompt tokens to read between two steps of the batch.

    So long a long prompt holds up the next token of the others, and the cancelling of anything.
    A GPU needs many at once to be busy (llama.cpp's micro-batch is 512 too); on a CPU, 64 at a
    time cost no more than 2048 (6.1 and 8.1 CPU seconds for 4,000 tokens of the model that
    ships), with a longest step of a tenth of the time.
    """
    return _CPU_STEP if computes_on_cpu() else _GPU_STEP


def most_pixels() -> int:
    """How large pictures are looked at where a model would take any size; larger ones are shrunk.

    An encoder's attention goes over all patches at once. On a CPU the scores of that lie in memory,
    which for a million pixels comes to a gigabyte or two; a GPU's kernels need only time.
    """
    return _CPU_PIXELS if computes_on_cpu() else _GPU_PIXELS


def computes_on_cpu() -> bool:
    """Whether there is no GPU that MLX could use."""
    import mlx.core as mx  # noqa: PLC0415 — imported when a model is loaded

    return mx.default_device() == mx.Device(mx.cpu)


def adapter_type(computed: Any) -> Any:
    """The `mx.Dtype` in which the adapters of a layer are kept that is `computed` in its own.

    The CPU's kernel for choosing a matrix for each row knows float32 only.
    """
    import mlx.core as mx  # noqa: PLC0415 — imported when a model is loaded

    return computed if mx.default_device() == mx.Device(mx.gpu) else mx.float32


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no such file."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
