"""Judge a failed attempt: what to tell the client, and whether somebody else should be asked.

Pure: what happened goes in, a `Failure` comes out; the attempt loop does what it says.

| what happened                                   | retry | fall back | the client is told     |
|-------------------------------------------------|-------|-----------|------------------------|
| no connection, reset, malformed answer          | yes   | yes       | 503, 502               |
| the engine loads its model, and says so         | yes   | yes       | 503                    |
| no first token in time                          | yes   | yes       | 504                    |
| 408, 429, 5xx                                   | yes   | yes       | 429, 502, 503, 504     |
| 429 of an engine here, which has a queue        | other | yes       | 429                    |
| 401, 403: the engine refuses the gateway        | other | yes       | 502                    |
| 3xx: not followed                               | other | yes       | 502                    |
| 404 for the model: this replica lacks it        | yes   | yes       | the engine's own words |
| 404 and 405 that are no error object, 501       | no    | yes       | 501                    |
| the request is too long for the model           | no    | longer    | the engine's own words |
| it will not talk of that: a content policy      | no    | no        | its whole error object |
| other 4xx: the client's own mistake             | no    | no        | the engine's own words |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from math import inf

import msgspec

from backends.base import BackendError, Cause, Header, RequestRefused, Stage
from backends.engine_error import (
    CONTEXT_LENGTH_EXCEEDED,
    EngineError,
    is_error_object,
    parse_error,
)
from gateway.errors import (
    ContentRefused,
    EngineAnswered,
    GatewayError,
    NotSupported,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.wire.reply_headers import PLAUSIBLE_WAIT, redirects_to, retry_after

FIRST_TOKEN_TIMEOUT = "first_token_timeout"
IDLE_TIMEOUT = "idle_timeout"
TOTAL_TIMEOUT = "total_timeout"
REPLICA_SILENT = "replica_silent"
"""It let several health checks go by unanswered, while somebody else could be asked."""
DEADLINE_EXCEEDED = "deadline_exceeded"
"""The time is over that the client itself has given."""
DIVERGED = "diverged"
"""Another replica should have gone on with an answer, and gave another one."""

RETRY_SOON = 1.0
"""Seconds: what `Retry-After` says where nothing better is known."""
_WHILE_STARTING = 10.0
"""The same, where an engine has to be started first, and does not say when that will be."""
_MOST_TOLD = 64 << 10
"""Bytes: of a longer error object the client is told what every error says."""
_OVERLOADED = 529
"""What Anthropic's API says where it has too much to do, and those that imitate it."""


class Why(StrEnum):
    """Why a model cannot answer, as `fallback` in routing.yaml calls it."""

    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    CONTEXT = "context"


class Tells(IntEnum):
    """How much a failure tells a client, beside those of other models."""

    CANNOT = 0
    """The engine cannot do what is asked, by its claims or its own word."""
    NOBODY = 1
    """Those who can are not there."""
    FAILED = 2
    """Somebody who can has failed."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt failed, and what follows from it."""

    cause: str
    """The value of `error.type` and of the metric's label."""
    error: GatewayError
    """What the client is told if nobody can do better."""
    retry: bool = True
    """Another try on this route makes sense."""
    fall_back: bool = True
    """Another model may be asked."""
    why: Why = Why.UNAVAILABLE
    """Which one: those that the file names for this."""
    blame: bool = True
    """The replica is at fault: its breaker counts this."""
    loading: str = ""
    """What it does before it can answer, where it says that."""
    misconfigured: str = ""
    """Why only whoever wrote routing.yaml can mend it, if that is so."""
    overloaded: bool = False
    """The replica has too much to do: that it answers this says nothing else of it."""
    leave_replica: bool = False
    """The replica is not asked the same again: it said nothing at all, or has let the request
    wait for its turn as long as it may."""
    retry_after: float | None = None
    """Seconds for which the replica asks to be left alone."""
    tells: Tells = Tells.FAILED


def more_telling(former: Failure, latter: Failure) -> Failure:
    """Which of the failures of two models the client is told.

    The latter of two that were asked, as with retries; else what the model it named lacks.
    """
    if latter.tells is Tells.FAILED or latter.tells > former.tells:
        return latter
    return former


def judge_exception(error: BackendError, replica: str) -> Failure:
    """What an adapter raised, before anything had come that a client could see."""
    if isinstance(error, RequestRefused):
        return _refused(error)
    message = f"replica {replica}: {error.message}"
    if error.cause is Cause.LOADING:
        unavailable = Unavailable(message, retry_after=RETRY_SOON)
        return Failure(cause=error.cause, error=unavailable, blame=False, loading=error.message)
    if error.stage is Stage.CONNECT:
        return Failure(cause=error.cause, error=Unavailable(message, retry_after=RETRY_SOON))
    if error.cause is Cause.UNSUPPORTED:
        return _unsupported(message)
    return Failure(cause=error.cause, error=UpstreamFailed(message))


def judge_not_ready(error: BackendError, replica: str) -> Failure:
    """An engine that the gateway starts itself is not there, and will not be in time."""
    message = f"replica {replica}: {error.message}"
    wait = _WHILE_STARTING if error.retry_after is None else error.retry_after
    return Failure(
        cause=error.cause,
        error=Unavailable(message, retry_after=min(wait, PLAUSIBLE_WAIT)),
        blame=False,
        leave_replica=True,
    )


def judge_status(
    status: int, headers: Sequence[Header], body: bytes, replica: str, wall_clock: float
) -> Failure:
    """An answer with a status other than 2xx; `wall_clock` is the time since the epoch in s."""
    said = parse_error(status, body)
    if _is_refused_content(said):
        return _refused_content(status, said)
    misconfigured = _misconfigured(status, headers, replica)
    if misconfigured is not None:
        return misconfigured
    if status in (501, 405) or (status == 404 and not is_error_object(body)):
        return _unsupported(f"replica {replica} does not serve this endpoint: {said.message}")
    wait = retry_after(headers, wall_clock)
    if status == 429:
        error: GatewayError = RateLimited(
            f"replica {replica} is overloaded: {said.message}",
            code=said.code,
            retry_after=wait if wait is not None else RETRY_SOON,
        )
        return Failure(
            cause=f"http_{status}",
            error=error,
            why=Why.OVERLOADED,
            blame=False,
            overloaded=True,
            retry_after=wait,
        )
    if said.code == CONTEXT_LENGTH_EXCEEDED:  # also where an engine calls it a fault of its own
        return _clients_own(status if 400 <= status < 500 else 400, said)
    if status == 408 or status >= 500:
        error = _server_side(status, said, replica, wait)
        why = Why.OVERLOADED if status == _OVERLOADED else Why.UNAVAILABLE
        return Failure(cause=f"http_{status}", error=error, why=why, retry_after=wait)
    if status == 404 and _lacks_model(said):
        # The client's model was found in the table: it is the replica that lacks its own, and
        # one that refuses fast would draw all the traffic if nobody blamed it.
        failure = _clients_own(status, said)
        return msgspec.structs.replace(failure, retry=True, fall_back=True, blame=True)
    return _clients_own(status, said)


def _misconfigured(status: int, headers: Sequence[Header], replica: str) -> Failure | None:
    """An answer that only whoever wrote routing.yaml can mend, if it is one."""
    if status in (401, 403):
        what = f"refuses the gateway's credentials (HTTP {status}): check `api_key` of its backend"
    elif 300 <= status < 400:
        what = (
            f"redirects (HTTP {status}){redirects_to(headers)}, which the gateway does not "
            "follow: put the final URL under `replicas`"
        )
    else:
        return None
    return Failure(
        cause=f"http_{status}",
        error=UpstreamFailed(f"replica {replica} {what}"),
        misconfigured=what,
        leave_replica=True,
    )


def judge_stream(said: EngineError, replica: str) -> Failure:
    """An error inside a stream, before its first content."""
    if _is_refused_content(said):
        return _refused_content(said.status or 400, said)
    if said.status is not None and said.is_clients_own:
        return _clients_own(said.status, said)
    if said.code == CONTEXT_LENGTH_EXCEEDED:
        return _clients_own(400, said)
    if said.status == 429:
        error: GatewayError = RateLimited(
            f"replica {replica} is overloaded: {said.message}", retry_after=RETRY_SOON
        )
        return Failure(
            cause="http_429", error=error, why=Why.OVERLOADED, blame=False, overloaded=True
        )
    error = UpstreamFailed(f"replica {replica}: {said.message}")
    return Failure(cause=Cause.ENGINE, error=error)


def judge_protocol(what: str, replica: str) -> Failure:
    """An answer that breaks the rules of its own format."""
    return Failure(cause=Cause.PROTOCOL, error=UpstreamFailed(f"replica {replica}: {what}"))


def judge_divergence(how: str, replica: str) -> Failure:
    """An answer that was to be gone on with, and is another one."""
    error = UpstreamFailed(f"replica {replica} was to go on with an answer and said {how}")
    return Failure(cause=DIVERGED, error=error, blame=False)


def judge_timeout(cause: str, seconds: float, replica: str, had: float = inf) -> Failure:
    """A wait that was too long. Nothing may follow once the whole request is out of time.

    `had` is how many seconds of the request's the replica was given: a request that has waited in
    a queue, or was tried elsewhere, leaves it fewer.
    """
    what = {
        FIRST_TOKEN_TIMEOUT: "sent no token within",
        IDLE_TIMEOUT: "was silent for",
        TOTAL_TIMEOUT: "did not finish within",
        DEADLINE_EXCEEDED: "did not finish within",
    }[cause]
    goes_on = cause in (FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT)
    out_of_time = cause == DEADLINE_EXCEEDED
    message = f"replica {replica} {what} {seconds:g} s"
    short = not goes_on and had < seconds / 2
    if out_of_time:
        message += ", the x-gateway-timeout of the request"
    if short:
        message += f"; it had {had:.2g} s of that"
    return Failure(
        cause=cause,
        error=UpstreamTimeout(message, code=cause) if out_of_time else UpstreamTimeout(message),
        retry=goes_on,
        fall_back=goes_on,
        # Little time, given or left, says nothing about the engine.
        blame=not out_of_time and not short,
        leave_replica=True,
    )


def judge_silent(replica: str) -> Failure:
    """A replica that hangs or is out of reach, given up before anything of its answer was there."""
    message = f"replica {replica} has sent nothing, and does not answer its health checks any more"
    return Failure(cause=REPLICA_SILENT, error=UpstreamTimeout(message), leave_replica=True)


def never_asked(seconds: float) -> GatewayError:
    """The client's own time was over before anybody could be asked."""
    return UpstreamTimeout(
        f"the request's x-gateway-timeout of {seconds:g} s was over before an engine was asked",
        code=DEADLINE_EXCEEDED,
    )


def _refused(error: RequestRefused) -> Failure:
    overloaded = error.status == 429
    answer: GatewayError
    if overloaded:
        wait = error.retry_after
        answer = RateLimited(
            error.message, code=error.code, retry_after=RETRY_SOON if wait is None else wait
        )
    else:
        answer = EngineAnswered(error.status, error.message, param=error.param, code=error.code)
    return Failure(
        cause=f"http_{error.status}",
        error=answer,
        retry=overloaded,
        fall_back=overloaded or error.status == 501 or error.code == CONTEXT_LENGTH_EXCEEDED,
        why=_why_refused(error),
        blame=False,
        overloaded=overloaded,
        # Asked again, it would stand at the end of the queue, behind those who came later.
        leave_replica=overloaded,
        tells=Tells.CANNOT if error.status == 501 else Tells.FAILED,
    )


def _why_refused(error: RequestRefused) -> Why:
    if error.code == CONTEXT_LENGTH_EXCEEDED:
        return Why.CONTEXT
    return Why.OVERLOADED if error.status == 429 else Why.UNAVAILABLE


_CONTENT_CODES = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})


def _is_refused_content(said: EngineError) -> bool:
    """Whether it will not talk of that. Another model is no way around it: the client is told."""
    return said.code in _CONTENT_CODES or said.type in _CONTENT_CODES


def _refused_content(status: int, said: EngineError) -> Failure:
    if said.told is None or len(msgspec.json.encode(said.told)) > _MOST_TOLD:
        return _clients_own(status, said)
    return Failure(
        cause=f"http_{status}",
        error=ContentRefused(status, said.message, said.told, param=said.param, code=said.code),
        retry=False,
        fall_back=False,
        blame=False,
    )


_LACKS_MODEL = re.compile(r"model\b.*(does not exist|not found|not loaded)", re.IGNORECASE)


def _lacks_model(said: EngineError) -> bool:
    told = said.param == "model" or said.code == "model_not_found"
    return told or _LACKS_MODEL.search(said.message) is not None


def _unsupported(message: str) -> Failure:
    error = NotSupported(message)
    return Failure(
        cause=Cause.UNSUPPORTED, error=error, retry=False, blame=False, tells=Tells.CANNOT
    )


def _server_side(status: int, said: EngineError, replica: str, wait: float | None) -> GatewayError:
    message = f"replica {replica} failed (HTTP {status}): {said.message}"
    if status == 503:
        return Unavailable(message, retry_after=wait if wait is not None else RETRY_SOON)
    if status in (408, 504):
        return UpstreamTimeout(message)
    return UpstreamFailed(message)


def _clients_own(status: int, said: EngineError) -> Failure:
    # FastAPI's 422 is what OpenAI's clients know as 400.
    status = 400 if status == 422 else status
    too_long = said.code == CONTEXT_LENGTH_EXCEEDED
    return Failure(
        cause=f"http_{status}",
        error=EngineAnswered(status, said.message, param=said.param, code=said.code),
        retry=False,
        fall_back=too_long,
        why=Why.CONTEXT if too_long else Why.UNAVAILABLE,
        blame=False,
    )
