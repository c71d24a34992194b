"""Outputs that a job pushes with its own OIDC token, whose issuer, audience, time, key and run are verified."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import msgspec
import orjson

from reconciler.drivers.connection import Api
from reconciler.engine.current import Current
from reconciler.manifests.kinds import IntegrationSpec, StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution, ExecutionState
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import DEEPEST, JsonObject, too_deep
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.provenance import text_at

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

AUDIENCE = "reconciler"
"""Audience that a job may request, besides the public URL of the daemon."""
ALGORITHMS = ["RS256", "ES256"]
MAX_TOKEN = 20_000
MAX_OUTPUTS = 64
MAX_BYTES = 64 << 10
KEYS_S = 300.0
LEEWAY_S = 60


class OutputsRefused(ReconcilerError):
    """The push is refused, or is too late. ``status``: HTTP status of the answer."""

    code = "RC8007"

    def __init__(self, message: str, *, status: int = 401, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _Discovery(msgspec.Struct, frozen=True):
    """The fields that are read of a discovery document (OpenID Connect Discovery 1.0 §3)."""

    issuer: str = ""
    jwks_uri: str = ""


class OutputReceiver:
    """Verifies and stores pushed outputs. The keys of an issuer are cached for `KEYS_S`."""

    def __init__(self, current: Current, executors: ExecutorResolver) -> None:
        self._current = current
        self._context = current.context
        self._executors = executors
        self._keys: dict[str, tuple[float, KeySet]] = {}

    async def push(self, execution_id: str, token: str, outputs: Mapping[str, object]) -> dict[str, object]:
        """Merge ``outputs`` into those of the execution; returns the outputs that were stored. Raises `OutputsRefused`.

        Outputs that the stage does not declare are left out. Every push merges, so that several jobs of a run can push.
        """
        if not token or len(token) > MAX_TOKEN:
            raise OutputsRefused("no bearer token, or not the token of a job")
        store = self._context.store
        execution: Execution | None = await store.execution(execution_id)
        pinned = await store.pinned(execution.spec_digest) if execution is not None else None
        if execution is None or pinned is None:
            raise OutputsRefused("the token is not of this execution's run")  # the same for an unknown execution
        stage = resource_from_json(pinned)
        await self._prove(execution, stage, token)
        if too_deep(outputs):
            raise OutputsRefused(f"the outputs are nested deeper than {DEEPEST} levels", status=422)
        declared = {output.name for output in stage.typed(StageSpec).outputs}
        kept: dict[str, object] = {}
        kept |= self._context.redactor.redact_fields({name: value for name, value in outputs.items() if name in declared})
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
        """Return the trusted issuers: those of the Integration's `oidc.issuers`, or else the provider's own."""
        if not own:
            raise OutputsRefused("this provider's jobs have no tokens", status=400, hint="Its own variables are read as outputs.")
        declared = self._current.active.resources.get(ResourceId.from_path(execution.integration))
        oidc = declared.typed(IntegrationSpec).oidc if declared is not None else None
        return (oidc.issuers if oidc is not None else ()) or (own,)

    async def _claims(self, api: Api, issuer: str, token: str) -> JsonObject:
        """Return the claims of a token of ``issuer``. For an unknown key, the keys are read again once."""
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

    async def _jwks(self, api: Api, issuer: str, *, fresh: bool) -> KeySet:
        known = self._keys.get(issuer)
        now = time.monotonic()
        if known is not None and now - known[0] < (
            10.0 if fresh else KEYS_S
        ):  # a flood of invalid tokens must not reach the issuer
            return known[1]
        keys = await fetch_keys(self._current, api, issuer)
        self._keys[issuer] = (now, keys)
        return keys


async def fetch_keys(current: Current, api: Api, issuer: str) -> KeySet:
    """Return the public keys of ``issuer`` (OpenID Connect Discovery 1.0). Requests go only to its own host.

    Raises `OutputsRefused` (503) if the issuer cannot be reached, or its answer is invalid.
    """
    from joserfc.jwk import KeySet, KeySetSerialization

    from reconciler.drivers.builtin import connection_to

    connection = connection_to(issuer, api.connection.integration)
    client = await current.local_client(connection, hosts=(urlsplit(issuer).hostname or "",))
    path = issuer.partition("://")[2].partition("/")[2]
    prefix = f"/{path.rstrip('/')}" if path else ""
    try:
        answer = await client.request("GET", f"{prefix}/.well-known/openid-configuration")
        document = msgspec.convert(answer.json(), _Discovery)
        if document.issuer != issuer:
            raise OutputsRefused("the issuer's discovery document names another issuer", status=503)
        keys = cast("KeySetSerialization", (await client.request("GET", document.jwks_uri)).json())
        return await asyncio.to_thread(KeySet.import_key_set, keys)
    except OutputsRefused:
        raise
    except (ReconcilerError, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise OutputsRefused(
            f"the keys of {issuer} cannot be read: {getattr(error, 'message', type(error).__name__)}", status=503
        ) from None


class _UnknownKey(Exception):
    """The token names a key that is not in the set."""


def _issuer(token: str, trusted: Sequence[str], integration: str) -> str:
    """Return the token's issuer if it is one of ``trusted``. The signature is verified later, with the keys of that issuer."""
    try:
        part = token.split(".")[1]
        claims: object = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        claims = None
    if not isinstance(claims, Mapping) or "iss" not in claims:
        raise OutputsRefused("the token is no JSON Web Token with an issuer")
    issuer: object = claims["iss"]
    if isinstance(issuer, str) and issuer in trusted:
        return issuer
    raise OutputsRefused(
        f"the token's issuer (iss) is {_shown(issuer)}; expected {_any_of(trusted)}",
        hint=f"If it is your enterprise's own, name it in `spec.oidc.issuers` of {integration}.",
    )


def _difference(claims: JsonObject, expected: Mapping[str, Sequence[str]]) -> str:
    """Return the first claim that differs from the expected values. The signature has been verified."""
    for name, values in expected.items():
        if text_at(claims, (name,)).lower() not in {value.lower() for value in values}:
            return f": the claim '{name}' is {_shown(claims.get(name))}; expected {_any_of(values)}"
    return ""


def _any_of(values: Sequence[str]) -> str:
    return " or ".join(_shown(value) for value in values)


def _shown(value: object) -> str:
    """Return the value of a claim in quotes: short, and without control characters."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    text = "".join(char if char.isprintable() else "?" for char in text)
    return f"'{text[:200]}'" if value is not None else "missing"


def _decode(token: str, keys: KeySet, issuer: str, audiences: list[str]) -> JsonObject:
    """Return the claims of a token after verifying it. Raises `_UnknownKey`, `OutputsRefused`."""
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
    claims: JsonObject = decoded.claims
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


def _wrong_claim(error: Exception, claims: JsonObject, audiences: Sequence[str]) -> str:
    """Return the claim that is wrong, with its value and the expected one."""
    name: str | None = getattr(error, "claim", None)
    if name == "aud" or ("aud" not in claims and name is None):
        return f"its audience (aud) is {_shown(claims.get('aud'))}; expected {_any_of(audiences)}"
    if type(error).__name__ == "ExpiredTokenError":
        return f"it expired: exp is {_shown(claims.get('exp'))}, now is {int(time.time())}"
    return f"its claim '{name}' is {_shown(claims.get(name))}" if name else type(error).__name__
