"""An engine in this process on the model that ships, whose steps can be held up or made to fail."""

from __future__ import annotations

import asyncio
import threading
import time

from backends.inprocess.answer import Answer
from backends.inprocess.engine import Engine
from backends.inprocess.job import Job, Row
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import SequenceSpec
from backends.inprocess.text import SequenceText
from backends.mlx import model

LONG = 3000


class Gate:
    """The real runtime, whose steps can be held up or made to fail."""

    def __init__(self, runtime):
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()
        self.failures = []
        self.broken = {}
        """What another call than `step` raises, by its name; each once."""
        self.sizes = []
        """How many rows got a token, for each step."""

    @property
    def steps(self):
        return len(self.sizes)

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def insert(self, *args):
        self._raise("insert")
        return self._runtime.insert(*args)

    def remove(self, uids):
        self._raise("remove")
        self._runtime.remove(uids)

    def reset(self):
        self._raise("reset")
        self._runtime.reset()

    def _raise(self, name):
        if (error := self.broken.pop(name, None)) is not None:
            raise error

    def step(self):
        assert self.open.wait(10)
        if self.failures:
            raise self.failures.pop()
        tokens = self._runtime.step()
        self.sizes.append(len(tokens))
        return tokens


def make_job(gate, *, rows=1, max_tokens=LONG, stream=True, decode=None, prompt=(1, 2, 3), **more):
    answer = Answer(rows)
    job = Job(answer.sink, stream=stream)
    for index in range(rows):
        row = Row(
            job,
            SequenceSpec(
                prompt=list(prompt),
                max_tokens=max_tokens,
                sampling=Sampling(temperature=0, **more),
                ignore_eos=True,
            ),
            SequenceText(index, decode or gate.prompts.decode),
        )
        job.rows.append(row)
    return job, answer


def busy(engine):
    load = engine.load()
    return load.running, load.waiting


async def finish(answer):
    return await asyncio.wait_for(answer.all(), 30)


def start(model_dir, *, clock=time.monotonic, **options):
    """An engine for one sequence, with what waits in front of it."""
    load = {key: options.pop(key) for key in ("context", "kv_cache") if key in options}
    width = options.setdefault("max_batch", 1)
    engine = Engine(
        "MLX",
        lambda: Gate(model.load(str(model_dir), max_batch=width, **load)),
        **{"max_waiting": 8, "clock": clock, **options},
    )
    return engine, engine.start()
