"""One running instance of an engine, and what the gateway knows about it.

A replica outlives the table that names it: a reload keeps those whose id is still there, so
counters and breakers live on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from backends.base import Adapter, Backend
from backends.load import Demand
from backends.options import OutlierDetection, SlowStart
from backends.readiness import Condition, Readiness
from gateway.policies.saturation import is_saturated
from gateway.routing.breaker import Breaker, BreakerState, always
from gateway.routing.flapping import Flapping
from gateway.routing.load import ReplicaLoad
from gateway.routing.outlier import may_eject
from gateway.routing.slow_start import share
from gateway.routing.tally import FirstToken, Tally
from gateway.telemetry.replica_belief import Belief

SILENT_PROBES = 3
"""Probes in a row to which nothing came back, after which a replica counts as gone."""
NOT_PROBED = Readiness(False, "not probed yet", Condition.LOADING)
MISCONFIGURED_FOR = 60.0
"""Seconds between two tries of a replica that refuses the gateway itself: it takes a person."""


class Replica:
    """An address of a backend with its load, its breaker and its last known readiness."""

    __slots__ = (
        "_detection",
        "_ejected_as",
        "_ejections",
        "_left_alone_until",
        "_silences",
        "_slow_since",
        "_stuck_as",
        "_why_ejected",
        "adapter_faults",
        "address",
        "alive_at",
        "answered_at",
        "backend",
        "backend_name",
        "base_weight",
        "breaker",
        "flapping",
        "id",
        "leaving",
        "load",
        "overloaded",
        "peers",
        "readiness",
        "slow_start",
        "stuck",
        "tally",
    )

    def __init__(self, backend_name: str, backend: Backend, address: str) -> None:
        self.id = f"{backend_name}@{_short(address)}"
        """Unique and stable: what headers, metrics and logs call it."""
        self.backend_name = backend_name
        self.backend = backend
        self.address = address
        self.base_weight = 1.0
        """How much it can take relative to the other replicas of its backend, above 0."""
        self.slow_start: SlowStart | None = None
        """How it gets to that, where it does not have it at once."""
        self._slow_since: float | None = None
        """When its slow start began; None before the first pick that it might be the one of."""
        self.load = ReplicaLoad()
        self.breaker = Breaker()
        self.readiness = NOT_PROBED
        self.flapping = Flapping()
        self.tally = Tally()
        """How its requests went in this interval, to be compared with its peers'."""
        self.peers: Sequence[Replica] = (self,)
        """All replicas of its backend."""
        self.leaving = False
        """It is in no table any more; requests that run there go on."""
        self.stuck = ""
        """Why it is believed to make no tokens, whatever its health check says."""
        self._stuck_as = Condition.UNHEALTHY
        self.answered_at = -inf
        """When it was last seen to make a token, or a whole answer."""
        self.alive_at = -inf
        """When it last answered a health check with a yes."""
        self._silences: deque[float] = deque(maxlen=SILENT_PROBES)
        """When the latest probes in a row began to which nothing came back."""
        self._detection = OutlierDetection()
        self._ejected_as = Condition.EJECTED
        self._why_ejected = ""
        self._ejections: dict[str, int] = {}
        """By what: failures in a row, a comparison, a refusal; all of them so far."""
        self._left_alone_until = -inf
        self.overloaded = True
        """Whether it asked to be left alone because it had too much to do."""
        self.adapter_faults: dict[Adapter, str] = {}
        """Why it lacks adapters that it should have, as far as that has been tried."""

    @property
    def outstanding(self) -> int:
        """Attempts that have been sent and not yet ended."""
        return self.load.outstanding

    @property
    def pending_tokens(self) -> int:
        """See `gateway.policies.Candidate`, like what follows."""
        return self.load.pending_tokens

    def weight(self, now: float) -> float:
        """How much it can take now. A slow start begins with the first look after it is back."""
        if self.slow_start is None:
            return self.base_weight
        if self._slow_since is None:
            self._slow_since = now
        return self.base_weight * share(self.slow_start, now - self._slow_since)

    def first_token_time(self, now: float) -> float | None:
        """Seconds to the first token, estimated."""
        return self.load.first_token_time(now)

    def demand(self, now: float) -> Demand | None:
        """What its engine says is asked of it, where that is fresh."""
        return self.load.demand(now)

    def foreign(self, now: float) -> int:
        """Requests of others, by that word."""
        return self.load.foreign(now)

    def belief(self, now: float) -> Belief:
        """All of that, to be told."""
        load, demand = self.load, self.load.demand(now)
        return Belief(
            weight=self.weight(now),
            pending_tokens=load.pending_tokens,
            prompt_tokens=load.prompt_tokens,
            known_tokens=load.known_tokens,
            first_token=load.first_token_time(now),
            prefill=load.rates.prefill,
            decode=load.rates.decode,
            saturated=demand is not None and is_saturated(demand),
            demand=demand,
            demand_age=None if load.heard_at is None else now - load.heard_at,
        )

    def may_take_traffic(self, now: float) -> bool:
        """The one predicate for routing: ready as far as anybody knows, and not broken."""
        return (
            self.readiness.ready
            and self.breaker.allows(now)
            and now >= self._left_alone_until
            and not self.leaving
            and not self.stuck
        )

    def condition(self, now: float) -> Condition:
        """How it is. One whose breaker is half-open is ejected still, although it may be tried."""
        if self.leaving:
            return Condition.DRAINING
        if not self.readiness.ready:
            return self.readiness.condition
        if self.stuck:
            return self._stuck_as
        if not self.breaker.closed:
            return self._ejected_as
        return Condition.READY if now >= self._left_alone_until else Condition.RATE_LIMITED

    def available_at(self, now: float) -> float:
        """When it may be asked again, by what is known; `now` where nothing says a time."""
        return max(
            now, self._left_alone_until, now if self.breaker.closed else self.breaker.opens_at
        )

    @property
    def gone_since(self) -> float | None:
        """Since when there has been no sign of it, where it seems to be down or to hang; else None,
        also where nobody looks."""
        if self.leaving:
            return None
        if self.stuck:
            return self.answered_at if self._stuck_as is Condition.UNHEALTHY else None
        if self.readiness.ready or self.readiness.condition is not Condition.UNHEALTHY:
            return None
        return max(self.answered_at, self.alive_at)

    def is_silent(self, since: float) -> bool:
        """Whether it has let several probes in a row go by that were begun after `since`, and has
        made no token meanwhile. One that only refuses them may be on its way out, at work still."""
        silences = self._silences
        return len(silences) == SILENT_PROBES and silences[0] >= max(since, self.answered_at)

    def serves(self, adapter: Adapter | None) -> bool:
        """Whether it can answer with `adapter`; None is the model itself."""
        return adapter is None or self.backend.has_adapter(self.address, adapter)

    def why_not(self, now: float, adapter: Adapter | None = None) -> str:
        """Why it may not take traffic for `adapter`, in a few words; empty where it may."""
        match self.condition(now):
            case Condition.DRAINING:
                return "on its way out"
            case Condition.READY:
                pass
            case Condition.RATE_LIMITED:
                return f"asked to be left alone for {self._left_alone_until - now:.0f} s more"
            case _ if not self.readiness.ready:
                return self.readiness.reason
            case _ if self.stuck:
                return self.stuck
            case ejected:
                return f"{ejected}: {self._why_ejected}; {self._tried_again(now)}"
        if adapter is not None and not self.serves(adapter):
            reason = self.adapter_faults.get(adapter, "not loaded yet")
            return f"adapter {adapter.name}: {reason}"
        return ""

    def _tried_again(self, now: float) -> str:
        wait = self.breaker.opens_at - now
        if wait <= 0:
            return "the next request tries it"
        trying = self.breaker.state(now) is BreakerState.HALF_OPEN
        return "being tried" if trying else f"tried again in {wait:.0f} s"

    @property
    def detection(self) -> OutlierDetection:
        """When it is ejected."""
        return self._detection

    @detection.setter
    def detection(self, detection: OutlierDetection) -> None:
        self._detection = detection
        self.breaker.threshold = detection.consecutive_failures

    @property
    def ejections(self) -> dict[str, int]:
        """How often it has been ejected so far, by what."""
        return dict(self._ejections)

    def answers(self, epoch: int, now: float, first_token: float | None, tokens: int = 0) -> None:
        """The first content of an attempt of `epoch` is there, in a stream after `first_token`
        seconds, with about `tokens` of its prompt to compute. So a trial need not last as long as
        its answer."""
        self.answered_at = now
        self.stuck = ""
        if epoch != self.breaker.epoch:
            return
        if first_token is not None:
            self.tally.first_tokens.append(FirstToken(first_token, tokens))
        if not self.breaker.closed:
            self.succeeded(epoch)

    def succeeded(self, epoch: int) -> None:
        """An attempt of `epoch` has ended well, or in a mistake of the client's."""
        if epoch == self.breaker.epoch:
            self.tally.successes += 1
        if self.breaker.succeeded(epoch):
            self._slow_since = None

    def failed(self, epoch: int, now: float, cause: str, *, misconfigured: str = "") -> None:
        """An attempt of `epoch` has failed, and it is the replica's fault.

        One that refuses the gateway itself is `misconfigured`, for that reason: it is tried seldom,
        and however many of its peers are ejected, because the configuration may well be wrong for
        all of them.
        """
        if epoch == self.breaker.epoch:
            self.tally.failures += 1
        if not self.breaker.failed(epoch, now, always if misconfigured else self.may_be_ejected):
            return
        if misconfigured:
            self.breaker.open(now, MISCONFIGURED_FOR)
            self._note_ejection("misconfigured", Condition.MISCONFIGURED, misconfigured)
        else:
            why = f"{self.breaker.threshold} failures in a row, the last: {cause}"
            self._note_ejection("consecutive_failures", Condition.EJECTED, why)

    def undecided(self, epoch: int, now: float) -> None:
        """An attempt of `epoch` has ended, and says nothing of the replica."""
        self.breaker.undecided(epoch, now)

    def leave_alone(self, until: float, *, overloaded: bool = True) -> None:
        """It has asked for that: no traffic before `until`, where others can take it."""
        self._left_alone_until = max(self._left_alone_until, until)
        self.overloaded = overloaded

    def eject(self, now: float, seconds: float, why: str) -> None:
        """A comparison with its peers is against it."""
        self.breaker.open(now, seconds)
        self._note_ejection("outlier", Condition.EJECTED, why)

    def may_be_ejected(self) -> bool:
        """Whether enough of its peers are left. As in Envoy, only those count that were ejected for
        how their requests went, and not those that are out for what they say themselves."""
        ejected = sum(one._ejected for one in self.peers if one is not self)
        return may_eject(len(self.peers), ejected, self._detection.max_ejection_percent)

    @property
    def _ejected(self) -> bool:
        return not self.breaker.closed and self._ejected_as is Condition.EJECTED

    def _note_ejection(self, by: str, condition: Condition, why: str) -> None:
        self._ejected_as, self._why_ejected = condition, why
        self._ejections[by] = self._ejections.get(by, 0) + 1
        self.tally.clear()

    def asked_for_token(self, said: Readiness, now: float) -> None:
        """Take note of what came of that."""
        self.stuck, self._stuck_as = ("" if said.ready else said.reason), said.condition
        if said.ready:
            self.answered_at = now

    def probed(self, said: Readiness, began: float, now: float, *, busy: bool) -> None:
        """Take note of what came back of a probe. Nothing says nothing where it is `busy`: it may
        have nobody left to answer."""
        if said.ready:
            self.alive_at = now
        if not said.silent:
            self._silences.clear()
        elif not busy:
            self._silences.append(began)

    def is_away(self, now: float) -> None:
        """Take note, before that is observed, that it is not ready; once each time it goes away."""
        if self.readiness.ready:
            self.flapping.left(now)
        else:
            self.flapping.missing()

    def loads(self, why: str, now: float) -> None:
        """Take note that a request has met it loading: it was restarted since the last probe."""
        self.is_away(now)
        self.observe(Readiness(False, why, Condition.LOADING))

    def observe(self, readiness: Readiness) -> None:
        """Take note of a probe. A replica that comes back starts with a clean record."""
        if readiness.ready and not self.readiness.ready:
            self.breaker.reset()
            self.tally.clear()
            self.stuck = ""
            self._slow_since = None
        self.readiness = readiness


def _short(address: str) -> str:
    _, _, rest = address.partition("://")
    return (rest or address).removesuffix("/").removesuffix("/v1")
