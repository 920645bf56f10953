"""What a request says about how its answer comes about: read when an answer has broken off."""

from __future__ import annotations

from typing import Any

import msgspec

from backends.malformed import MALFORMED
from gateway.wire import lenient
from gateway.wire.resume.transcript import as_object


class Sampling(msgspec.Struct, frozen=True):
    """Fields of all dialects, and those that vLLM and llama-server add."""

    temperature: Any = None
    top_k: Any = None
    seed: Any = None
    grammar: Any = None
    json_schema: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    output_config: Any = None
    output_format: Any = None
    echo: Any = None
    suffix: Any = None
    use_beam_search: Any = None
    stream_options: Any = None

    @property
    def greedy(self) -> bool:
        """Whether each token is the likeliest: then the same weights say the same."""
        return (self.temperature == 0 and self.temperature is not False) or self.top_k == 1

    @property
    def seeded(self) -> bool:
        """Whether an engine of the same kind draws the same tokens again."""
        return isinstance(self.seed, int) and self.seed >= 0

    @property
    def constrained(self) -> bool:
        """Whether the answer is held to a form, as far as the fields here say it."""
        forms = (
            self.grammar, self.json_schema, self.guided_json, self.guided_regex,
            self.guided_choice, self.guided_grammar, self.structured_outputs,
            self.output_config, self.output_format,
        )  # fmt: skip
        return any(forms)

    @property
    def only_goes_on(self) -> bool:
        """Whether the answer is what follows the prompt, and nothing else."""
        return not (self.echo or self.suffix or self.use_beam_search)

    @property
    def counted(self) -> bool:
        """Whether a stream of chat or completions shall tell its usage, behind its end."""
        return bool(as_object(self.stream_options).get("include_usage"))


_decode = lenient.decoder(Sampling)


def read_sampling(body: bytes) -> Sampling:
    """What `body`, a request in any dialect, says of it."""
    try:
        return _decode(body)
    except MALFORMED:
        return Sampling()
