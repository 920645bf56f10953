"""What `backends:` in routing.yaml can say: a struct for each kind of engine.

An adapter is imported by `open`, when a configuration names its engine. So whoever only reads a
configuration, or decides by one, has neither a transport nor an engine in its process.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
from msgspec import Meta

from backends.base import Adapter, Backend, Footprint, Options
from backends.capabilities import Capability
from backends.discover import Discover
from backends.health_options import Health, OutlierDetection
from backends.inprocess.pooling import Pooling
from backends.secret import Secret
from backends.units import Duration, Size, Timeout

if TYPE_CHECKING:
    from backends.inprocess.backend import InProcessBackend
    from backends.launch.recipes import Recipe
    from backends.openai_http import OpenAIHttpBackend

Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s/]|unix:/)\S*$",
        description="a URL such as http://host:8000, https://host/v1 or unix:/run/engine.sock",
    ),
]
"""`http://host:port`, `https://…`, or `unix:/path/to/socket`."""


EnvironmentName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the name of an environment variable",
    ),
]


class Launch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An engine that the gateway starts itself, watches, and stops."""

    model: Annotated[str, Meta(min_length=1)]
    """What to load: a path (relative to the file that names it), or a hub id such as `org/name`."""
    args: tuple[str, ...] = ()
    """Further arguments of the engine; they win over the gateway's own."""
    command: Annotated[str, Meta(min_length=1)] | None = None
    """The engine's executable: a path, or a name that is looked for on PATH."""
    env: dict[EnvironmentName, Secret] = {}
    """Environment variables for the engine, beside the gateway's own; shown nowhere."""
    memory: Size | None = None
    """What one replica takes of `memory_limit`; measured where it is not given."""
    start_timeout: Timeout = Timeout(300)
    """How long it may take from its start to its first token."""
    stop_timeout: Timeout = Timeout(30)
    """How long it may take to end when told to, before it is killed."""
    stall_timeout: Timeout = Timeout(60)
    """How long it may have requests and make no token, before it is suspected to hang."""
    idle_unload: Timeout | None = None
    """Stop it when nothing was asked for that long; the next request starts it again."""
    preload: bool = True
    """Start it with the gateway; else the first request does."""


AdapterName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of at most 64 letters, digits, `_`, `.` and `-`",
    ),
]
AdapterPath = Annotated[str, Meta(min_length=1, max_length=4096)]


def _loras(adapters: dict[str, str]) -> frozenset[Adapter]:
    return frozenset(Adapter(name, path) for name, path in adapters.items())


class WeightedReplica(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replica that can take more, or less, than the others."""

    url: Url
    """Its base URL."""
    weight: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    """How much it can take, relative to the other replicas."""


Replicas = Annotated[tuple[Url | WeightedReplica, ...], Meta(min_length=1)]


class SlowStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a replica that is new, or back, gets to its full weight: Envoy's `slow_start`."""

    window: Timeout = Timeout(30)
    """How long that takes."""
    aggression: Annotated[float, Meta(ge=0.1, le=10)] = 1.0
    """1 is a straight line; more takes on traffic faster at the beginning, less later."""
    min_weight_percent: Annotated[float, Meta(ge=1, le=100)] = 10
    """What it begins with, of its weight."""


class HttpOptions(Options, frozen=True, kw_only=True):
    """What every engine over HTTP needs."""

    api_key: Secret | None = None
    """Sent to the engine as `Authorization: Bearer`."""
    without: tuple[Capability, ...] = ()
    """What this server cannot do, although its kind can: such requests go elsewhere."""
    slow_start: SlowStart | None = None
    """Have a replica that is new, or back, take on traffic by and by."""
    discover: Discover | None = None
    """Where the replicas are told, in place of `replicas`: by DNS, or in a file."""
    health: Health = Health()
    """How it is found out whether a replica works, beside its answer to `/health`."""
    outlier_detection: OutlierDetection = OutlierDetection()
    """When a replica gets no requests for a while, because it fails them."""

    @property
    def listed(self) -> tuple[str | WeightedReplica, ...]:
        """Its replicas; none for those that the gateway is to start."""
        raise NotImplementedError

    @property
    def urls(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(one if isinstance(one, str) else one.url for one in self.listed)

    def weight(self, url: str) -> float:
        """How much the replica at `url` can take, relative to the others."""
        weighted = (one for one in self.listed if not isinstance(one, str) and one.url == url)
        return next((one.weight for one in weighted), 1.0)


def _gguf_objection(file: Path) -> str | None:
    """See `Options.objection`, for a GGUF file."""
    from backends.llama_cpp.gguf_header import read_header  # noqa: PLC0415

    try:
        read_header(file)
    except (ValueError, OSError) as error:
        return f"{file} cannot be read as a GGUF file: {error}"
    return None


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
        return msgspec.structs.replace(
            self,
            replicas=self.urls,
            discover=None,
            slow_start=None,
            health=Health(),
            outlier_detection=OutlierDetection(),
        )

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        from backends.openai_http import OpenAIHttpBackend  # noqa: PLC0415

        return OpenAIHttpBackend(name, self)


class LaunchableOptions(HttpOptions, frozen=True, kw_only=True):
    """What an engine needs that runs already, or that the gateway starts."""

    replicas: Annotated[int, Meta(ge=1, le=64)] | Replicas = 1
    """Base URLs, one per replica, or `{url: …, weight: 2}`; with `launch`, how many to start."""
    launch: Launch | None = None
    """How to start it, where the gateway is to do that."""
    adapters: dict[AdapterName, AdapterPath] = {}  # noqa: RUF012 — a struct makes its own of it
    """LoRA adapters: what they are called here, and where the engine finds each of them."""

    @property
    def loras(self) -> frozenset[Adapter]:
        """See `Options.loras`."""
        return _loras(self.adapters)

    def engine(self) -> Options:
        """See `Options.engine`. One that is started here is started for adapters, or without."""
        with_any = self.launch is not None and self.adapters
        return msgspec.structs.replace(
            self._unweighted(), adapters={"any": "-"} if with_any else {}
        )

    def _unweighted(self) -> Self:
        """How much goes where is no business of the engines."""
        replicas = self.replicas if isinstance(self.replicas, int) else self.urls
        return msgspec.structs.replace(
            self,
            replicas=replicas,
            discover=None,
            slow_start=None,
            health=Health(),
            outlier_detection=OutlierDetection(),
        )

    @property
    def listed(self) -> tuple[str | WeightedReplica, ...]:
        """See `HttpOptions.listed`."""
        return () if isinstance(self.replicas, int) else self.replicas

    @property
    def count(self) -> int:
        """How many replicas there are."""
        return self.replicas if isinstance(self.replicas, int) else len(self.replicas)

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        if self.launch is None:
            return self.connect(name)
        from backends.launch.backend import LaunchedBackend  # noqa: PLC0415

        return LaunchedBackend(name, self, self.launch)

    def connect(self, name: str) -> OpenAIHttpBackend:
        """Build the adapter for engines that run already."""
        raise NotImplementedError

    def recipe(self) -> Recipe:
        """How such an engine is run."""
        raise NotImplementedError


class LlamaServerOptions(LaunchableOptions, frozen=True, kw_only=True, tag="llama_server"):
    """llama.cpp's llama-server."""

    def engine(self) -> Options:
        """See `Options.engine`. It loads adapters at its start only, and serves less with them."""
        same = self._unweighted()
        if self.launch is not None:
            return same
        return msgspec.structs.replace(same, adapters={"any": "-"} if self.adapters else {})

    def check_adapter(self, file: Path) -> None:
        """Whether that file is an adapter of this model, as far as files tell.

        Raises `ValueError` or `OSError`.
        """
        from backends.llama_cpp.gguf_adapter import check_adapter  # noqa: PLC0415

        check_adapter(file, self._file())

    def objection(self) -> str | None:
        """See `Options.objection`."""
        return None if (file := self._file()) is None else _gguf_objection(file)

    def _file(self) -> Path | None:
        """The model's file, where it is the gateway that starts the engine, and not the hub's."""
        file = None if self.launch is None else Path(self.launch.model)
        return file if file is not None and file.is_file() else None

    def connect(self, name: str) -> OpenAIHttpBackend:
        """See `LaunchableOptions.connect`."""
        from backends.llama_server.backend import LlamaServerBackend  # noqa: PLC0415

        return LlamaServerBackend(name, self)

    def recipe(self) -> Recipe:
        """See `LaunchableOptions.recipe`."""
        from backends.launch.recipes import LLAMA_SERVER  # noqa: PLC0415

        return LLAMA_SERVER


class VllmOptions(LaunchableOptions, frozen=True, kw_only=True, tag="vllm"):
    """vLLM's OpenAI-compatible server."""

    priority_scheduling: bool = False
    """Whether it runs with `--scheduling-policy priority`: then it is told how urgent a request
    is. Without that it refuses requests that say so."""
    health: Health = Health(token_interval=Duration(60))
    """How it is found out whether a replica works, beside its answer to `/health`: its server can
    outlive what generates."""

    def connect(self, name: str) -> OpenAIHttpBackend:
        """See `LaunchableOptions.connect`."""
        from backends.vllm import VllmBackend  # noqa: PLC0415

        return VllmBackend(name, self)

    def recipe(self) -> Recipe:
        """See `LaunchableOptions.recipe`."""
        from backends.launch.recipes import VLLM  # noqa: PLC0415

        return VLLM


class InProcessOptions(Options, frozen=True, kw_only=True):
    """What every engine in this process needs."""

    model: Annotated[str, Meta(min_length=1)]
    """What to load, and from where."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    """Sequences generated together; further requests wait."""
    max_waiting: Annotated[int, Meta(ge=0)] = 256
    """Sequences that may wait for a place in the batch; beyond it 429."""
    queue_timeout: Timeout = Timeout(45)
    """How long a request may wait for a place; then 429. Below `first_token`, after which nobody
    waits for a stream any more."""
    isolation: Literal["thread", "process"] = "thread"
    """Where the engine runs: in a thread of the gateway, or in a supervised process of its own, so
    that a crash of the engine is no crash of the gateway."""
    stall_timeout: Timeout = Timeout(60)
    """How long it may have requests and make no token, before it counts as hung; in a process of
    its own it is then killed and started again."""
    start_timeout: Timeout = Timeout(300)
    """How long a process of its own may take from its start to its first token."""

    def open(self, name: str) -> Backend:
        """See `Options.open`. What is missing or broken shows in `start`."""
        if self.isolation == "thread":
            return self.open_here(name)
        from backends.isolation.options import IsolatedOptions  # noqa: PLC0415

        return IsolatedOptions.of(self).open(name)

    def open_here(self, name: str) -> InProcessBackend:
        """Build the adapter for an engine in this process. Imports no engine yet."""
        raise NotImplementedError

    def adapter(self) -> type[InProcessBackend]:
        """The class of what `open_here` builds: what such an engine can."""
        raise NotImplementedError


PoolingOption = Literal["auto", Pooling]

_HOST = r"\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]"
_PORT = "6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4}"
ImageHost = Annotated[
    str,
    Meta(
        pattern=rf"^({_HOST})(:({_PORT}))?$",
        description="a host such as images.example.com, *.example.com or 10.0.0.5:8080",
    ),
]


class Images(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What requests may bring for a model to look at."""

    max_per_request: Annotated[int, Meta(ge=0, le=256)] = 32
    """Images that a request may have."""
    fetch_from: tuple[ImageHost, ...] = ()
    """Hosts from which images are fetched that come as http(s) URLs, `*.` for all below a domain;
    without any, only data URLs are taken. Private addresses need a host without a wildcard."""


class MlxOptions(InProcessOptions, frozen=True, kw_only=True, tag="mlx"):
    """An MLX model in this process: a directory, or the id of a model on the hub."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory (relative to the file that names it), or a hub id such as `org/name`."""
    context: Annotated[int, Meta(ge=1)] | None = None
    """Tokens that prompt and answer may have together, if less than what the model can read."""
    kv_cache: Size | None = None
    """Memory for the tokens of all sequences that run: enough for `max_batch` of a whole `context`
    where it is not said, but at most a quarter of what the weights leave of the machine's."""
    prompt_cache: Size | None = None
    """Memory for what has been computed of earlier prompts and answers, beside it; a quarter of
    `kv_cache` where it is not said, 0 for none."""
    tool_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """How the model writes tool calls: `auto` finds out, `none` leaves them as text, or a name."""
    reasoning_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """What the model puts around its thinking: `auto`, `none`, or a name such as `deepseek_r1`."""
    adapters: dict[AdapterName, AdapterPath] = {}  # noqa: RUF012 — a struct makes its own of it
    """LoRA adapters, in mlx-lm's format or PEFT's: what they are called here, and their
    directories (relative to the file that names them)."""
    pooling: PoolingOption = "auto"
    """What of a text becomes its embedding: the `mean` of its tokens, the `last` or the first
    (`cls`). `auto` is what the model's `1_Pooling` says, else the mean."""
    images: Images = Images()
    """What requests may bring for the model to look at."""

    def open_here(self, name: str) -> InProcessBackend:
        """See `InProcessOptions.open_here`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415

        return MlxBackend(name, self)

    def adapter(self) -> type[InProcessBackend]:
        """See `InProcessOptions.adapter`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415

        return MlxBackend

    @property
    def loras(self) -> frozenset[Adapter]:
        """See `Options.loras`."""
        return _loras(self.adapters)

    def engine(self) -> Options:
        """See `Options.engine`. It loads adapters while it runs."""
        return msgspec.structs.replace(self, adapters={})

    def check_adapter(self, directory: Path) -> None:
        """Whether the adapter there is one of this model, as far as files tell.

        Raises `ValueError` or `OSError`.
        """
        from backends.mlx import adapter_files  # noqa: PLC0415

        adapter = adapter_files.look_at(directory)
        if (model := Path(self.model)).is_dir():
            adapter_files.check_base(adapter, model)

    def objection(self) -> str | None:
        """See `Options.objection`."""
        from backends.mlx import model  # noqa: PLC0415

        return model.objection(self.model)

    def footprint(self) -> Footprint | None:
        """See `Options.footprint`."""
        from backends.mlx import model  # noqa: PLC0415

        return model.footprint(
            self.model,
            max_batch=self.max_batch,
            context=self.context,
            kv_cache=self.kv_cache,
            prompt_cache=self.prompt_cache,
            adapters=tuple(self.adapters.values()),
        )


class LlamaCppOptions(InProcessOptions, frozen=True, kw_only=True, tag="llama_cpp"):
    """A GGUF model in this process, run by llama.cpp."""

    model: Annotated[str, Meta(min_length=1)]
    """A `.gguf` file (relative to the file that names it); of a split model, its first part."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 4
    """Sequences generated together, each with room for a whole `context`; further requests wait."""
    context: Annotated[int, Meta(ge=1)] | None = None
    """Tokens that prompt and answer may have together: 8192 if it is not said, and never more than
    the model was trained for. Memory for `max_batch` of them is taken at the start."""
    n_gpu_layers: Annotated[int, Meta(ge=-1)] | None = None
    """Layers to compute on a GPU, -1 for all: what it does by itself where there is one."""
    threads: Annotated[int, Meta(ge=1, le=512)] | None = None
    """Threads that compute: as many as there are cores, where it is not said."""
    tool_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """How the model writes tool calls: `auto` finds out, `none` leaves them as text, or a name."""
    reasoning_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """What the model puts around its thinking: `auto`, `none`, or a name such as `deepseek_r1`."""
    pooling: PoolingOption = "auto"
    """What of a text becomes its embedding; see `MlxOptions`. `auto` is what the file says."""

    def open_here(self, name: str) -> InProcessBackend:
        """See `InProcessOptions.open_here`."""
        from backends.llama_cpp.backend import LlamaCppBackend  # noqa: PLC0415

        return LlamaCppBackend(name, self)

    def adapter(self) -> type[InProcessBackend]:
        """See `InProcessOptions.adapter`."""
        from backends.llama_cpp.backend import LlamaCppBackend  # noqa: PLC0415

        return LlamaCppBackend

    def objection(self) -> str | None:
        """See `Options.objection`."""
        return _gguf_objection(Path(self.model))

    def footprint(self) -> Footprint | None:
        """See `Options.footprint`. Raises `ValueError` or `OSError` for what is no GGUF file."""
        from backends.llama_cpp.memory import footprint  # noqa: PLC0415

        return footprint(Path(self.model), context=self.context, max_batch=self.max_batch)


BackendOptions = OpenAIOptions | LlamaServerOptions | VllmOptions | MlxOptions | LlamaCppOptions
"""Every kind of engine that `use:` may name."""
