"""One OpenAI-compatible base_url in front of the models you run yourself."""

from importlib.metadata import version

__version__ = version("llm-gateway")
