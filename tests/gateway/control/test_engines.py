from __future__ import annotations

import asyncio

import pytest

from backends.base import Backend, BackendError, Cause, Stage
from backends.memory import Footprint
from backends.options import Launch, LlamaServerOptions, OpenAIOptions, Options, WeightedReplica
from backends.readiness import Readiness
from gateway.config import Config
from gateway.control import engines
from gateway.control.engines import Engines, Plan, StartError

MEBI = 1 << 20


class Quiet(Backend):
    """A backend that does what its options say, and remembers it."""

    addresses = ("here",)
    capabilities = frozenset()

    def __init__(self, options: QuietOptions) -> None:
        self._options = options
        self.stopping = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.stopped = 0
        if not options.slow:
            self.may_stop.set()

    async def start(self) -> None:
        if self._options.fails:
            raise BackendError(Stage.CONNECT, Cause.ENGINE, self._options.fails)

    async def send(self, address, request):
        raise AssertionError("nobody asks it")

    async def probe(self, address):
        return Readiness(True)

    async def stop(self) -> None:
        self.stopping.set()
        await self.may_stop.wait()
        self.stopped += 1


class QuietOptions(Options, frozen=True, kw_only=True):
    takes: int = 0
    """Bytes."""
    slow: bool = False
    fails: str = ""
    broken: bool = False

    def open(self, name: str) -> Backend:
        if self.broken:
            raise ValueError("no such thing")
        return Quiet(self)

    def footprint(self) -> Footprint | None:
        if not self.takes:
            return None
        return Footprint(
            name="m",
            weights=self.takes,
            kv_cache=0,
            overhead=0,
            context=1,
            concurrency=1,
            bytes_per_token=1,
        )


def config(memory_limit: int | None = None, **backends: Options) -> Config:
    return Config(backends=backends, models={}, memory_limit=memory_limit)


async def in_force(owner: Engines, of: Config) -> Plan:
    plan = owner.plan(of)
    await owner.start(plan)
    owner.commit(plan)
    return plan


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr(engines, "machine_memory", lambda: 420 * MEBI)


async def test_the_new_one_is_loaded_beside_the_old_one_and_both_must_fit(small_machine):
    owner = Engines()
    first = await in_force(owner, config(tale=QuietOptions(takes=300 * MEBI)))
    another = config(tale=QuietOptions(takes=200 * MEBI))
    with pytest.raises(StartError) as caught:
        owner.plan(another)
    said = str(caught.value)
    assert "needs 500.0 MiB of memory, and there are 420.0 MiB" in said
    assert "tale as it was, still loaded: 300.0 MiB weights" in said
    assert "take it out of the file" in said

    gone = await in_force(owner, config())
    with pytest.raises(StartError, match="still loaded"):
        owner.plan(another)
    await owner.stop(gone.retired)
    assert gone.retired == tuple(first.opened.values())
    owner.plan(another)


async def test_what_is_kept_is_counted_once(small_machine):
    owner = Engines()
    kept = QuietOptions(takes=300 * MEBI)
    first = await in_force(owner, config(tale=kept))
    plan = owner.plan(config(tale=kept, other=QuietOptions(takes=100 * MEBI)))
    assert [one.name for one in plan.fresh] == ["other"]
    assert plan.opened["tale"].backend is first.opened["tale"].backend
    assert plan.retired == ()
    with pytest.raises(StartError, match="or fewer models at once"):
        owner.plan(config(tale=kept, other=QuietOptions(takes=200 * MEBI)))


async def test_a_stop_that_is_cut_off_is_left_to_the_one_who_stops_all():
    owner = Engines()
    first = await in_force(owner, config(tale=QuietOptions(slow=True)))
    backend = first.opened["tale"].backend
    assert isinstance(backend, Quiet)
    plan = await in_force(owner, config())
    retiring = asyncio.create_task(owner.stop(plan.retired))
    await backend.stopping.wait()
    retiring.cancel()
    await asyncio.gather(retiring, return_exceptions=True)
    assert backend.stopped == 0
    backend.may_stop.set()
    await owner.stop()
    assert backend.stopped == 1
    await owner.stop()
    assert backend.stopped == 1


def launched(**launch) -> LlamaServerOptions:
    return LlamaServerOptions(launch=Launch(model="/m.gguf", **launch))


async def test_a_plan_that_fails_leaves_nobody_in_the_residency():
    owner = Engines()
    for _ in range(3):
        with pytest.raises(StartError, match="no such thing"):
            owner.plan(config(one=launched(), two=QuietOptions(broken=True)))
    assert not owner._residency._tenants


async def test_what_fails_beside_the_first_is_told_too(caplog):
    owner = Engines()
    plan = owner.plan(config(one=QuietOptions(fails="disk"), two=QuietOptions(fails="cable")))
    with pytest.raises(StartError) as caught:
        await owner.start(plan)
    told = {str(caught.value), *(record.message for record in caplog.records)}
    assert told == {"backend 'one': disk", "backend 'two': cable"}
    assert all(one.backend.stopped == 1 for one in plan.fresh)


@pytest.mark.parametrize(
    ("before", "after", "while_it_starts"),
    [(40, 90, 90), (90, 40, 90), (40, None, None), (None, 40, None), (40, 40, 40)],
)
async def test_while_a_plan_starts_the_larger_limit_holds(before, after, while_it_starts):
    owner = Engines()
    await in_force(owner, config(memory_limit=before))
    plan = owner.plan(config(memory_limit=after))
    await owner.start(plan)
    assert owner._residency._limit == while_it_starts
    await owner.abandon(plan)
    assert owner._residency._limit == before
    await owner.start(plan)
    owner.commit(plan)
    assert owner._residency._limit == after


async def test_a_plan_that_does_not_start_leaves_the_limit_and_no_tenant():
    owner = Engines()
    await in_force(owner, config(memory_limit=40))
    plan = owner.plan(
        config(memory_limit=90, one=launched(preload=False), two=QuietOptions(fails="disk"))
    )
    with pytest.raises(StartError):
        await owner.start(plan)
    assert owner._residency._limit == 40
    assert not owner._residency._tenants


async def test_weights_change_while_the_engine_and_its_load_stay():
    def served(**fields):
        second = WeightedReplica(url="http://b", **fields)
        return config(far=OpenAIOptions(replicas=("http://a", second)))

    owner = Engines()
    await owner.start(plan := owner.plan(served()))
    before = owner.commit(plan)
    before.replicas[1].load.begin(0.0, 10)
    changed = owner.plan(served(weight=3.0))
    assert changed.fresh == ()
    after = owner.commit(changed)
    assert after.replicas == before.replicas
    assert [one.weight(0.0) for one in after.replicas] == [1.0, 3.0]
    assert after.replicas[1].outstanding == 1
    await owner.stop()
