"""What `backends:` in routing.yaml can say: a file for each kind of engine, and what they share.

An adapter is imported by `open`, when a configuration names its engine. So whoever only reads a
configuration, or decides by one, has neither a transport nor an engine in its process.
"""

from backends.options.base import Options
from backends.options.discover import Discover
from backends.options.health import Health, OutlierDetection
from backends.options.http import HttpOptions
from backends.options.images import Images
from backends.options.in_process import InProcessOptions
from backends.options.launchable import Launch, LaunchableOptions
from backends.options.llama_cpp import LlamaCppOptions
from backends.options.llama_server import LlamaServerOptions
from backends.options.mlx import MlxOptions
from backends.options.openai import OpenAIOptions
from backends.options.replicas import SlowStart, WeightedReplica
from backends.options.vllm import VllmOptions

BackendOptions = OpenAIOptions | LlamaServerOptions | VllmOptions | MlxOptions | LlamaCppOptions
"""Every kind of engine that `use:` may name."""

__all__ = [
    "BackendOptions",
    "Discover",
    "Health",
    "HttpOptions",
    "Images",
    "InProcessOptions",
    "Launch",
    "LaunchableOptions",
    "LlamaCppOptions",
    "LlamaServerOptions",
    "MlxOptions",
    "OpenAIOptions",
    "Options",
    "OutlierDetection",
    "SlowStart",
    "VllmOptions",
    "WeightedReplica",
]
