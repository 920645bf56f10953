from __future__ import annotations

from backends.options import LlamaServerOptions, OpenAIOptions
from backends.secret import Secret
from gateway.config.key_hash import KeyHash
from gateway.config.secret_variables import secret_variables
from gateway.config.structs import Config, Key


def test_keys_of_clients_and_of_engines_are_known_by_their_value():
    backends = {
        "a": OpenAIOptions(replicas=("http://x",), api_key=Secret("sk-elsewhere")),
        "b": LlamaServerOptions(replicas=("http://y",)),
    }
    config = Config(
        models={}, backends=backends, keys={"app": Key(value=KeyHash.of("client-key-1"))}
    )
    env = {
        "APP_KEY": "client-key-1",
        "COPY_OF_IT": "client-key-1",
        "ENGINE_KEY": "sk-elsewhere",
        "HF_TOKEN": "hf_something",
        "EMPTY": "",
        "PATH": "/bin:/usr/bin",
        "WORDS": "two words",
    }
    assert secret_variables(config, env) == {"APP_KEY", "COPY_OF_IT", "ENGINE_KEY"}
    assert secret_variables(Config(models={}, backends={}), env) == frozenset()
