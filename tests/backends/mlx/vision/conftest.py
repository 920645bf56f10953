import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image as Pillow

from backends.base import Adapter
from backends.inprocess.images import Picture
from backends.inprocess.params import Sampling
from backends.inprocess.prompt import Prompt
from backends.inprocess.runtime import SequenceSpec, Token
from backends.mlx import model as model_files
from backends.mlx.runtime import MlxRuntime
from tests.support.vision_model import make_vision_model

TOKENS = 16
STEPS = 400


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Picture:
    """Noise: another one for each seed."""
    shape = (size[1], size[0], 3)
    noise = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    return Picture(Pillow.fromarray(noise), hashlib.sha256(noise.tobytes()).digest())


class Asked(NamedTuple):
    """A text, in which `IMAGE` stands for each picture."""

    text: str
    pictures: Sequence[Picture] = ()


IMAGE = "\N{CAMERA}"


class Seeing:
    """One loaded model, driven step by step as the engine's thread does."""

    def __init__(self, directory: Path, **options: Any) -> None:
        runtime = model_files.load(str(directory), max_batch=4, **options)
        assert isinstance(runtime, MlxRuntime)
        self.runtime: Any = runtime
        self.directory = directory
        self.faults: list[Exception] = []
        self._answers: dict[int, list[Token]] = {}

    def placeholder(self) -> str:
        """What the model's template writes for an image."""
        holder: str = self.runtime.prompts._processor.placeholder
        wrapped = holder == "<|image_pad|>"
        return f"<|vision_start|>{holder}<|vision_end|>" if wrapped else holder

    def rendered(self, asked: Asked) -> str:
        return asked.text.replace(IMAGE, self.placeholder())

    def prompt(self, asked: Asked) -> Prompt:
        text = self.rendered(asked)
        if not asked.pictures:
            return Prompt(self.runtime.prompts.text(text))
        return self.runtime.prompts._encode_pictures(text, asked.pictures)

    def insert(
        self, prompt: Prompt, *, tokens: int = TOKENS, adapter: Adapter | None = None
    ) -> int:
        spec = SequenceSpec(
            prompt=prompt.tokens,
            vision=prompt.vision,
            max_tokens=TOKENS,
            sampling=Sampling(temperature=0.0),
            ignore_eos=True,
            adapter=adapter,
        )
        uid = int(self.runtime.insert(spec, self.faults.append))
        self._answers[uid] = []
        return uid

    def step(self) -> list[Token]:
        tokens: list[Token] = self.runtime.step()
        for token in tokens:
            self._answers[token.uid].append(token)
            if token.cut:
                self.runtime.remove([token.uid])
        return tokens

    def finish(self, *uids: int) -> list[list[int]]:
        """Their tokens, once all are at their ends."""
        for _ in range(STEPS):
            if all(self._answers[uid] and self._answers[uid][-1].cut for uid in uids):
                return [[token.token for token in self._answers[uid]] for uid in uids]
            self.step()
        raise AssertionError(f"no end after {STEPS} steps")

    def ask(self, *asked: Asked) -> list[list[int]]:
        """Their answers, generated together."""
        return self.finish(*[self.insert(self.prompt(one)) for one in asked])


@pytest.fixture(scope="session")
def vision_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a small model of some kind."""
    root = tmp_path_factory.mktemp("vision")

    def directory(kind: str) -> Path:
        made = root / kind
        return made if made.is_dir() else make_vision_model(kind, made)

    return directory


@pytest.fixture
def seeing(vision_dir: Callable[[str], Path]) -> Any:
    """Load a small model of some kind; it is closed at the end."""
    opened: list[Seeing] = []

    def load(kind: str, **options: Any) -> Seeing:
        opened.append(Seeing(vision_dir(kind), **options))
        return opened[-1]

    yield load
    for one in opened:
        one.runtime.close()
