"""Keep the replicas of backends that are told elsewhere: look, again and again, and take over news.

Rules of this file:

- What cannot be found out changes nothing: the replicas known last stay, and probes judge them.
- News is a change of the configuration like any other: taken over whole, or not at all. So who
  stays keeps its counters, who is gone drains, and who is new is probed first.
- Where answers tell of some replicas only, others stay: `gateway.control.lingering` says who. One
  of them that may not take traffic any more is let go at once, without another look.
- One look at a backend at a time, with a deadline; what goes on failing is told once for each
  reason.
- A resolver that hangs keeps a thread. Those are few and its own, so nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from backends.options import Discover, HttpOptions
from backends.readiness import Condition
from gateway.config.structs import Config
from gateway.control.lingering import Lingering
from gateway.control.lookup import MOST, Entry, Found, LookupFailedError, look_up
from gateway.control.state import State
from gateway.errors import GatewayError

logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at which backends are due."""
TIMEOUT = 5.0
"""Seconds that a look may take."""
THREADS = 4
"""Names that the machine's own resolver is asked for at the same time."""
LEAST = 1.0
"""Seconds between two looks at one backend, whatever its time to live."""
MOST_REASONS = 16
"""Reasons that are told of one backend, until a look at it succeeds."""

_ANSWERING = (Condition.READY, Condition.RATE_LIMITED)
"""How a replica is that works, as far as anybody can tell."""

TakeOver = Callable[[str, Discover, tuple[Entry, ...]], Awaitable[None]]


class Discovery:
    """Looks for the replicas of the configuration in force."""

    def __init__(
        self,
        state: State,
        take_over: TakeOver,
        *,
        find: Callable[[Discover], Awaitable[Found]] | None = None,
        tick: float = TICK,
        timeout: float = TIMEOUT,
    ) -> None:
        """`take_over` puts a backend's replicas in force; it may raise `GatewayError`."""
        self._state = state
        self._take_over = take_over
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")
        self._find = find or partial(look_up, threads=self._threads)
        self._tick = tick
        self._timeout = timeout
        self._places: dict[str, _Place] = {}
        """By backend."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as looks:
                while True:
                    for name, place in self._due():
                        place.looking = True
                        looks.create_task(self._look(name, place))
                    for name, place in self._outlived():
                        place.looking = True
                        looks.create_task(self._let_go(name, place))
                    await asyncio.sleep(self._tick)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def successes(self) -> Mapping[str, bool]:
        """By backend that has been looked at: whether all that was found there is in force."""
        return {name: not one.fails for name, one in self._places.items() if one.due}

    async def look(self) -> None:
        """Once, at all of them that are due."""
        async with asyncio.TaskGroup() as looks:
            for name, place in self._due():
                place.looking = True
                looks.create_task(self._look(name, place))

    def _due(self) -> list[tuple[str, _Place]]:
        wanted = discovered(self._state.snapshot.config)
        known = self._places
        self._places = {
            name: known[name]
            if name in known and known[name].discover == discover
            else _Place(discover)
            for name, discover in wanted.items()
        }
        now = time.monotonic()
        return [(n, one) for n, one in self._places.items() if one.due <= now and not one.looking]

    async def _look(self, name: str, place: _Place) -> None:
        wait = float(place.discover.every)
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._find(place.discover)
            if found.ttl is not None:
                wait = min(wait, max(LEAST, found.ttl))
            place.lingering.hear(found.replicas, found.ttl, time.monotonic())
            await self._put_in_force(name, place)
            place.tell_success(name, found)
        except TimeoutError:
            place.tell_failure(name, f"no answer within {self._timeout:g} s")
        except LookupFailedError as error:
            place.tell_failure(name, str(error))
        except GatewayError as error:
            place.tell_failure(name, f"what was found is not in force: {error}")
        except Exception:
            logger.exception("%s: looking for its replicas hit a bug", name)
            place.fails = True
        finally:
            place.looking = False
            place.due = time.monotonic() + wait

    def _outlived(self) -> list[tuple[str, _Place]]:
        """Backends with replicas that stayed on, and do so no more. After a failure the next look
        is waited for."""
        return [
            (name, one)
            for name, one in self._places.items()
            if not (one.looking or one.fails) and self._entries(name, one) != one.in_force
        ]

    async def _let_go(self, name: str, place: _Place) -> None:
        try:
            await self._put_in_force(name, place)
        except GatewayError as error:
            place.tell_failure(name, f"what was found is not in force: {error}")
        except Exception:
            logger.exception("%s: letting replicas go hit a bug", name)
            place.fails = True
        finally:
            place.looking = False

    async def _put_in_force(self, name: str, place: _Place) -> None:
        options = self._state.snapshot.config.backends.get(name)
        if self._places.get(name) is not place or not isinstance(options, HttpOptions):
            return  # a reload has changed what is looked for
        entries = self._entries(name, place)
        if options.listed != entries:
            await self._take_over(name, place.discover, entries)
            count = f"{len(entries)} replica{'' if len(entries) == 1 else 's'}"
            logger.info("%s: %s by %s", name, count, place.discover.where)
        place.in_force = entries

    def _entries(self, name: str, place: _Place) -> tuple[Entry, ...]:
        now = time.monotonic()
        answering = {
            one.address
            for one in self._state.snapshot.replicas
            if one.backend_name == name and one.condition(now) in _ANSWERING
        }
        return place.lingering.entries(now, answering.__contains__)


class _Place:
    """Where one backend's replicas are told, and how looking there goes."""

    def __init__(self, discover: Discover) -> None:
        self.discover = discover
        self.lingering = Lingering(0.0 if discover.file else discover.removal_grace)
        self.in_force: tuple[Entry, ...] = ()
        """What was put there last."""
        self.due = 0.0
        """Monotonic seconds."""
        self.looking = False
        self.fails = False
        """The last that was done for it did not succeed; that has been told."""
        self._told: set[str] = set()
        """Why, since it last did."""
        self._left_out = 0
        self._stay = 0

    def tell_success(self, name: str, found: Found) -> None:
        if self.fails:
            logger.info("%s: its replicas are found and in force again", name)
        if found.left_out and found.left_out != self._left_out:
            logger.warning(
                "%s: %s tells of more than %d replicas: %d are left out",
                name, self.discover.where, MOST, found.left_out,
            )  # fmt: skip
        stay = len(self.in_force) - len(found.replicas)
        if stay > 0 and not self._stay:
            logger.info(
                "%s: %s tells of some replicas at a time: those missing, now %d, stay for %g s, or "
                "until they fail", name, self.discover.where, stay, self.lingering.grace,
            )  # fmt: skip
        self.fails, self._left_out, self._stay = False, found.left_out, stay
        self._told.clear()

    def tell_failure(self, name: str, why: str) -> None:
        if why not in self._told and len(self._told) < MOST_REASONS:
            self._told.add(why)
            logger.warning("%s: its replicas are not renewed, those known stay: %s", name, why)
        self.fails = True


def discovered(config: Config) -> Mapping[str, Discover]:
    """The backends whose replicas are told elsewhere. Pure."""
    return {
        name: options.discover
        for name, options in config.backends.items()
        if isinstance(options, HttpOptions) and options.discover is not None
    }


async def find_all(config: Config, timeout: float = TIMEOUT) -> tuple[Config, dict[str, str]]:
    """Look once, for whoever runs no gateway: `config` with the replicas that were found, and, by
    backend, why there are none."""
    backends, lost = dict(config.backends), {}
    for name, discover in discovered(config).items():
        why = f"no replicas by {discover.where}"
        replicas: tuple[Entry, ...] = ()
        try:
            async with asyncio.timeout(timeout):
                replicas = (await look_up(discover)).replicas
        except TimeoutError:
            why = f"{why}: no answer within {timeout:g} s"
        except LookupFailedError as error:
            why = f"{why}: {error}"
        if not replicas:
            lost[name] = why
        backends[name] = msgspec.structs.replace(backends[name], replicas=replicas)
    return msgspec.structs.replace(config, backends=backends), lost
