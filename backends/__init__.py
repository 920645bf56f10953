"""Engines: how each kind is reached, and nothing about who is asking.

This package never imports `gateway`. A new kind of engine is one new file and one name in
`BackendOptions`; heavy engines are imported only when a configuration names them.
"""

from backends.llama_server import LlamaServerOptions
from backends.mlx import MlxOptions
from backends.openai_http import OpenAIOptions
from backends.vllm import VllmOptions

BackendOptions = OpenAIOptions | LlamaServerOptions | VllmOptions | MlxOptions
"""Every kind of engine that `use:` may name."""
