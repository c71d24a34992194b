"""Outputs that a job pushes, proved by the job's own OIDC token: issuer, audience, time, key, and that it is of this very run."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from reconciler.drivers.base import Api
from reconciler.engine.current import Current
from reconciler.manifests.kinds import IntegrationSpec, StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution, ExecutionState
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import DEEPEST, too_deep
from reconciler.stages.executors import ExecutorResolver

AUDIENCE = "reconciler"
"""Audience that a job may ask for, besides the daemon's own public URL."""
ALGORITHMS = ["RS256", "ES256"]
MAX_TOKEN = 20_000
MAX_OUTPUTS = 64
MAX_BYTES = 64 << 10
KEYS_S = 300.0
LEEWAY_S = 60


class OutputsRefused(ReconcilerError):
    """The push is not believed, or comes too late. ``status`` is what HTTP answers."""

    code = "RC8007"

    def __init__(self, message: str, *, status: int = 401, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class OutputReceiver:
    """Takes outputs in."""

    def __init__(self, current: Current, executors: ExecutorResolver) -> None:
        self._current = current
        self._context = current.context
        self._executors = executors
        self._keys: dict[str, tuple[float, Any]] = {}

    async def push(self, execution_id: str, token: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Merge ``outputs`` into those of the execution; returns what was kept. Raises `OutputsRefused`.

        Names that the stage does not declare are left out. Every push merges: two jobs of a run may each bring theirs.
        """
        if not token or len(token) > MAX_TOKEN:
            raise OutputsRefused("no bearer token, or one that is no token of a job")
        store = self._context.store
        execution: Execution | None = await store.execution(execution_id)
        pinned = await store.pinned(execution.spec_digest) if execution is not None else None
        if execution is None or pinned is None:
            raise OutputsRefused("the token is not of this execution's run")  # the same for one that does not exist
        stage = resource_from_json(pinned)
        await self._prove(execution, stage, token)
        if too_deep(outputs):
            raise OutputsRefused(f"the outputs are nested deeper than {DEEPEST} levels", status=422)
        declared = {output.name for output in stage.typed(StageSpec).outputs}
        kept = {name: value for name, value in outputs.items() if name in declared}
        if not await store.put_outputs(execution_id, kept):
            raise OutputsRefused("the execution has ended", status=409)
        self._context.log.info(
            "outputs_pushed", kind="Stage", name=stage.id.name, canvas=stage.id.canvas, execution=execution_id, count=len(kept)
        )
        return kept

    async def _prove(self, execution: Execution, stage: Resource, token: str) -> None:
        if not execution.integration:
            raise OutputsRefused("the token is not of this execution's run")
        executor = self._executors.executor(stage)
        api = await self._executors.api(execution, stage, {})
        issuer = _issuer(token, self._issuers(execution, executor.issuer(api)), execution.integration)
        claims = await self._claims(api, issuer, token)
        if execution.state is ExecutionState.FINISHED:
            raise OutputsRefused("the execution has ended", status=409)
        if execution.run is None:
            raise OutputsRefused("the run is not known yet; try again", status=425)
        if not executor.matches_job_token(claims, execution.run):
            raise OutputsRefused(
                f"the token is not of this execution's run{_difference(claims, executor.expects(execution.run))}"
            )

    def _issuers(self, execution: Execution, own: str) -> tuple[str, ...]:
        """Return the issuers that are believed: those that the Integration names, else the provider's own."""
        if not own:
            raise OutputsRefused("this provider's jobs have no tokens", status=400, hint="Its own variables are read as outputs.")
        declared = self._current.active.resources.get(ResourceId.from_path(execution.integration))
        oidc = declared.typed(IntegrationSpec).oidc if declared is not None else None
        return (oidc.issuers if oidc is not None else ()) or (own,)

    async def _claims(self, api: Api, issuer: str, token: str) -> Mapping[str, Any]:
        """Return the claims of a token of ``issuer``; its keys are read again once when the token names one that is not known."""
        keys = await self._jwks(api, issuer, fresh=False)
        try:
            return _decode(token, keys, issuer, self._audiences(issuer))
        except _UnknownKey:
            keys = await self._jwks(api, issuer, fresh=True)
        try:
            return _decode(token, keys, issuer, self._audiences(issuer))
        except _UnknownKey:
            raise OutputsRefused("the token is signed with a key that its issuer does not publish") from None

    def _audiences(self, issuer: str) -> list[str]:
        own = self._context.config.server.public_url
        return [value for value in (AUDIENCE, own, own.rstrip("/"), issuer) if value]

    async def _jwks(self, api: Api, issuer: str, *, fresh: bool) -> Any:
        known = self._keys.get(issuer)
        now = time.monotonic()
        if known is not None and now - known[0] < (10.0 if fresh else KEYS_S):  # a flood of odd tokens asks the issuer rarely
            return known[1]
        keys = await fetch_keys(self._current, api, issuer)
        self._keys[issuer] = (now, keys)
        return keys


async def fetch_keys(current: Current, api: Api, issuer: str) -> Any:
    """Return the public keys of ``issuer`` (OpenID Connect Discovery 1.0); only its own host is asked.

    Raises `OutputsRefused` (503) when it cannot be reached or does not say what it should.
    """
    from joserfc.jwk import KeySet, KeySetSerialization

    from reconciler.drivers.builtin import connection_to

    connection = connection_to(issuer, api.connection.integration)
    client = await current.local_client(connection, hosts=(urlsplit(issuer).hostname or "",))
    path = issuer.partition("://")[2].partition("/")[2]
    prefix = f"/{path.rstrip('/')}" if path else ""
    try:
        document = (await client.request("GET", f"{prefix}/.well-known/openid-configuration")).json()
        if not isinstance(document, Mapping) or document.get("issuer") != issuer:
            raise OutputsRefused("the issuer's discovery document names another issuer", status=503)
        where = str(document.get("jwks_uri", ""))
        answer = cast("KeySetSerialization", (await client.request("GET", where)).json())
        return await asyncio.to_thread(KeySet.import_key_set, answer)
    except OutputsRefused:
        raise
    except (ReconcilerError, ValueError, KeyError, TypeError) as error:
        raise OutputsRefused(
            f"the keys of {issuer} cannot be read: {getattr(error, 'message', type(error).__name__)}", status=503
        ) from None


class _UnknownKey(Exception):
    """The token names a key that the set does not have."""


def _issuer(token: str, believed: Sequence[str], integration: str) -> str:
    """Return the token's issuer if it is one of ``believed``; its signature is yet to be checked with that issuer's keys."""
    try:
        part = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        came = claims["iss"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise OutputsRefused("the token is no JSON Web Token with an issuer") from None
    if came in believed:
        return str(came)
    raise OutputsRefused(
        f"the token's issuer (iss) is {_shown(came)}; expected {_any_of(believed)}",
        hint=f"If it is your enterprise's own, name it in `spec.oidc.issuers` of {integration}.",
    )


def _difference(claims: Mapping[str, Any], expected: Mapping[str, Sequence[str]]) -> str:
    """Return which claim is another than expected, with what came; the signature has been checked."""
    for name, values in expected.items():
        came = claims.get(name)
        if not isinstance(came, str) or came.lower() not in {value.lower() for value in values}:
            return f": the claim '{name}' is {_shown(came)}; expected {_any_of(values)}"
    return ""


def _any_of(values: Sequence[str]) -> str:
    return " or ".join(_shown(value) for value in values)


def _shown(value: Any) -> str:
    """Return what a token says in quotes: short, and without characters that act on a terminal."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    text = "".join(char if char.isprintable() else "?" for char in text)
    return f"'{text[:200]}'" if value is not None else "missing"


def _decode(token: str, keys: Any, issuer: str, audiences: list[str]) -> Mapping[str, Any]:
    from joserfc import jwt
    from joserfc.errors import InvalidKeyIdError, JoseError

    try:
        decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
    except InvalidKeyIdError:
        raise _UnknownKey from None
    except (JoseError, ValueError) as error:
        raise OutputsRefused(f"the token is not valid: {type(error).__name__}") from None
    if not decoded.header.get("kid"):
        raise OutputsRefused("the token names no key")
    claims: Mapping[str, Any] = decoded.claims
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "values": audiences},
        exp={"essential": True},
    )
    try:
        registry.validate(decoded.claims)
    except JoseError as error:
        raise OutputsRefused(f"the token is not valid: {_wrong_claim(error, claims, audiences)}") from None
    return claims


def _wrong_claim(error: Exception, claims: Mapping[str, Any], audiences: Sequence[str]) -> str:
    """Return which claim is wrong: what came, and what was expected."""
    name = getattr(error, "claim", None)
    if name == "aud" or ("aud" not in claims and name is None):
        return f"its audience (aud) is {_shown(claims.get('aud'))}; expected {_any_of(audiences)}"
    if type(error).__name__ == "ExpiredTokenError":
        return f"it expired: exp is {_shown(claims.get('exp'))}, now is {int(time.time())}"
    return f"its claim '{name}' is {_shown(claims.get(str(name)))}" if name else type(error).__name__
