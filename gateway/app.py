"""The composition root: the only place that builds long-lived objects, and that ends them."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random

from litestar.types import ASGIApp

from backends.base import Adapter, Endpoint
from gateway import __version__
from gateway.admin.adapters import adapter_routes
from gateway.admin.door import Door
from gateway.api.auth import Authenticator
from gateway.api.headers import of
from gateway.api.inference import Inference
from gateway.api.routes import build_api
from gateway.config import Config
from gateway.control.adapters import Adapters
from gateway.control.conditions import ConditionMonitor
from gateway.control.demand import DemandMonitor
from gateway.control.discovery import Discovery
from gateway.control.drain import Drain
from gateway.control.engines import Engines
from gateway.control.health import HealthMonitor
from gateway.control.readiness import ReadinessReport, report
from gateway.control.reload import Reloader
from gateway.control.state import State
from gateway.control.tokens import TokenMonitor
from gateway.dispatch.attempts import Attempts
from gateway.dispatch.watchdog import Watchdogs
from gateway.routing.replica import Replica
from gateway.server import GatewayServer
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaState
from gateway.telemetry.tracing import Tracing


class Gateway:
    """One gateway: everything it is made of, from its start to its end."""

    def __init__(
        self, path: Path, config: Config, env: Mapping[str, str], *, host: str | None = None
    ) -> None:
        """`path` is where `config` was read from, with the variables in `env`.

        `host` is what it listens on, where that is not what the file says.
        """
        self._engines = Engines()
        self._plan = self._engines.plan(config)
        self._state = State(self._engines.commit(self._plan))
        self._drain = Drain()
        self._metrics = Metrics(__version__)
        self._tracing = Tracing(
            config.telemetry.otlp_endpoint, sample=config.telemetry.sample, version=__version__
        )
        self._access_log = AccessLog(sys.stdout.fileno()) if config.telemetry.access_log else None
        self._attempts = Attempts(budget=config.retry_budget, metrics=self._metrics, rng=Random())
        self._adapters = Adapters(self._state)
        self._health = HealthMonitor(self._state, on_return=self._adapters.ask)
        self._host = config.server.host if host is None else host
        self._reloader = Reloader(
            path,
            env,
            host=self._host,
            state=self._state,
            engines=self._engines,
            health=self._health,
            adapters=self._adapters,
            on_swap=self._take_over,
        )
        self._discovery = Discovery(self._state, self._reloader.change_replicas)
        self._metrics.watch_replicas(self._replica_states)
        self._metrics.watch_sources(
            lambda: self._reloader.last_succeeded, lambda: self._discovery.successes
        )
        self._metrics.watch_drops("traces", lambda: self._tracing.dropped)
        if self._access_log is not None:
            log = self._access_log
            self._metrics.watch_drops("access_log", lambda: log.dropped)
        self._server = GatewayServer(self._api(), config.server, self._drain)

    async def run(self, bound: socket.socket, announce: Callable[[ReadinessReport], None]) -> None:
        """Serve on `bound` until told to leave; `announce` is called once engines are loaded.

        Raises `StartError` where an engine cannot be started.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reloader.request)
        if self._access_log is not None:
            self._access_log.start()
        background = asyncio.create_task(self._keep(announce))
        background.add_done_callback(lambda _: self._server.stop())
        try:
            await self._server.serve(sockets=[bound])
        finally:
            background.cancel()
            outcome = (await asyncio.gather(background, return_exceptions=True))[0]
            await self._stop()
        if not isinstance(outcome, asyncio.CancelledError):
            assert isinstance(outcome, BaseException), "the background ends by itself only broken"
            raise outcome

    async def _keep(self, announce: Callable[[ReadinessReport], None]) -> None:
        """Load the engines, while `/ready` already says so, then watch over them for good."""
        await self._reloader.start(self._plan)
        await self._discovery.look()
        await self._health.look(self._state.snapshot.replicas)
        async with asyncio.TaskGroup() as watchers:
            watchers.create_task(self._health.run())
            watchers.create_task(DemandMonitor(self._state).run())
            watchers.create_task(self._discovery.run())
            watchers.create_task(TokenMonitor(self._state).run())
            watchers.create_task(ConditionMonitor(self._state).run())
            watchers.create_task(self._adapters.run())
            watchers.create_task(self._reloader.run())
            await self._adapters.settle_all(self._state.snapshot.replicas)
            announce(report(self._state.snapshot, self._drain.phase, time.monotonic()))

    async def _stop(self) -> None:
        await self._attempts.stop()
        await self._reloader.stop()
        await self._engines.stop()
        if self._access_log is not None:
            self._access_log.stop()
        self._tracing.stop()

    def _api(self) -> ASGIApp:
        authenticator = Authenticator()
        watchdogs = Watchdogs()
        inference = {
            endpoint: Inference(
                endpoint,
                authenticator=authenticator,
                state=self._state,
                attempts=self._attempts,
                drain=self._drain,
                watchdogs=watchdogs,
                metrics=self._metrics,
                tracing=self._tracing,
                access_log=self._access_log,
            )
            for endpoint in Endpoint
        }
        door = Door(
            self._state, lambda keys, scope: authenticator.identify(keys, of(scope)), self._host
        )
        return build_api(
            inference,
            authenticator=authenticator,
            state=self._state,
            drain=self._drain,
            metrics=self._metrics,
            admin=adapter_routes(door, self._state, self._reloader),
        )

    def _take_over(self, config: Config) -> None:
        self._attempts.take_over(config)

    def _replica_states(self) -> list[ReplicaState]:
        now = time.monotonic()
        backends = self._state.snapshot.config.backends

        def loras(replica: Replica) -> Iterable[Adapter]:
            """What it should have; nothing once it is on its way out."""
            return () if replica.leaving else backends[replica.backend_name].loras

        return [
            ReplicaState(
                backend=replica.backend_name,
                replica=replica.id,
                ready=replica.may_take_traffic(now),
                condition=replica.condition(now),
                ejections=replica.ejections,
                outstanding=replica.outstanding,
                belief=replica.belief(now),
                load=replica.backend.load(replica.address),
                supervised=replica.backend.supervised(replica.address),
                adapters=[(one.name, replica.serves(one)) for one in loras(replica)],
            )
            for replica in (*self._state.snapshot.replicas, *self._engines.draining)
        ]
