"""A simulated AWS on one host: Security Token Service, Secrets Manager, and the Parameter Store of Systems Manager.

Every request is signed and judged by policies, except for AssumeRoleWithWebIdentity. State: ``keys`` by access key id (``user``,
``secret``, ``active``), ``users`` and ``roles`` by ARN (``policies``, ``trust``, ``max_session_s``), ``providers`` (IAM OIDC identity
providers) by ARN (``url``, ``client_ids``), ``issuers`` (see `reconciler.sandbox.relying`), ``secrets`` and ``parameters`` by ARN.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import cast
from urllib.parse import urlsplit

import orjson

from reconciler.sandbox.app import Action, Call, Options, RefusedCall, Reply, Route, Simulator, SlidingLimit
from reconciler.sandbox.aws import sigv4
from reconciler.sandbox.aws.policies import holds, statements
from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, REGION, ROLE, SECRET, USER, AwsPrincipal, AwsRecords
from reconciler.sandbox.aws.replies import Refuse
from reconciler.sandbox.aws.stores import CURRENT, Stores, fields_of
from reconciler.sandbox.aws.sts import VERSION, TokenService
from reconciler.sandbox.relying import form_of

HOST = "127.0.0.1"
"""An issuer on loopback is accepted with http and a port, which IAM would refuse."""
_UNSIGNED = "AssumeRoleWithWebIdentity"
_KINDS = {"secretsmanager": "secretsmanager", "AmazonSSM": "ssm"}


class Aws(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "aws"
    defaults: Mapping[str, object] = {
        "endpoint_region": "",  # accept signatures of this region only
        "calls_per_second": 20,  # with rate_limits
        "clock_error": "SignatureDoesNotMatch",  # or RequestExpired: the code for a time that is off
    }

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._tokens = TokenService(lambda: self.records, self.clock)
        self._stores = Stores(lambda: self.records)
        self._limit = SlidingLimit(20, 1.0)
        super().__init__(clock=clock)

    @property
    def records(self) -> AwsRecords:
        """The state, by type."""
        return cast("AwsRecords", self.state)

    def seed(self) -> dict[str, object]:
        actions = ["sts:AssumeRole", "secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret", "ssm:GetParameter*"]
        self._tokens.sessions.clear()
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": USER}, "Action": "sts:AssumeRole"}],
        }
        secret = {
            "name": "ci/app",
            "key": "",
            "deleted_at": 0,
            "versions": {str(uuid.uuid4()): {"text": '{"password":"sandbox"}', "stages": [CURRENT]}},
        }
        parameter = {"name": "/ci/token", "type": "SecureString", "key": "", "versions": {"1": "sandbox"}, "labels": {}}
        return {
            "keys": {KEY_ID: {"user": USER, "secret": SECRET, "active": True}},
            "users": {USER: {"id": "AIDASANDBOX234567ABC", "policies": [policy]}},
            "roles": {ROLE: {"id": "AROASANDBOX234567ABC", "trust": trust, "policies": [policy], "max_session_s": 3600}},
            "providers": {},
            "issuers": {},
            "secrets": {f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ci/app-AbCdEf": secret},
            "parameters": {f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/ci/token": parameter},
        }

    def restored(self) -> None:
        """Refuse policies that this simulator cannot judge, and URLs of issuers that IAM refuses. Raises `ValueError`."""
        for provider in self.records["providers"].values():
            parts = urlsplit(provider["url"])
            if parts.hostname != HOST and (parts.scheme != "https" or parts.port is not None or parts.query):
                raise ValueError("Invalid Open ID Connect Provider URL: https, without a port and a query")
        documents = [role["trust"] for role in self.records["roles"].values()]
        for owner in (*self.records["users"].values(), *self.records["roles"].values()):
            documents += owner["policies"]
        for document in documents:
            for statement in statements(document):
                holds(statement.get("Condition"), {})

    def actions(self) -> Mapping[str, Action]:
        """``revoke_sessions``; ``put_secret`` (``arn``, ``text``) and ``put_parameter`` (``arn``, ``value``): a new current version."""
        return {"revoke_sessions": self._revoke, "put_secret": self._put_secret, "put_parameter": self._put_parameter}

    def _revoke(self, _options: Options) -> dict[str, object]:
        count = len(self._tokens.sessions)
        self._tokens.sessions.clear()
        return {"revoked": count}

    def _put_secret(self, options: Options) -> dict[str, object]:
        versions = self.records["secrets"][str(options["arn"])]["versions"]
        for version in versions.values():
            version["stages"] = ["AWSPREVIOUS"] if CURRENT in cast("list[str]", version["stages"]) else []
        number = str(uuid.uuid4())
        versions[number] = {"text": str(options["text"]), "stages": [CURRENT]}
        return {"version": number}

    def _put_parameter(self, options: Options) -> dict[str, object]:
        versions = self.records["parameters"][str(options["arn"])]["versions"]
        number = str(max(map(int, versions)) + 1)
        versions[number] = str(options["value"])
        return {"version": int(number)}

    def routes(self) -> Iterable[Route]:
        return [("POST", "/", self._post), ("GET", "/", self._get)]

    def not_found(self, call: Call) -> Reply:
        return Reply(404, "<UnknownOperationException/>\n", {"content-type": "application/xml"})

    # -- requests ---------------------------------------------------------------------------------------------------

    def _get(self, call: Call) -> Reply:
        return self._query(call, dict(call.query))

    def _post(self, call: Call) -> Reply:
        if "x-amz-target" in call.headers:
            return self._json(call)
        return self._query(call, form_of(call.headers.get("content-type", ""), call.body) or {})

    def _query(self, call: Call, form: dict[str, str]) -> Reply:
        refuse, action = Refuse(json=False), form.get("Action", "")
        if not action:
            refuse(400, "MissingAction", "Could not find operation")
        if form.get("Version") != VERSION:
            refuse(
                400,
                "InvalidAction",
                f"Could not find operation {action} for version {form.get('Version', 'NO_VERSION_SPECIFIED')}",
            )
        self._throttle(refuse)
        if action == _UNSIGNED:
            return self._tokens.with_web_identity(form, refuse)
        principal = self._principal(call, "sts", refuse)
        if action == "GetCallerIdentity":
            return self._tokens.caller(principal)
        if action == "AssumeRole":
            return self._tokens.assume_role(principal, form, refuse)
        refuse(400, "InvalidAction", f"Could not find operation {action} for version {VERSION}")

    def _json(self, call: Call) -> Reply:
        refuse, target = Refuse(json=True), call.headers["x-amz-target"]
        handler, service = self._stores.actions.get(target), _KINDS.get(target.partition(".")[0])
        if handler is None or service is None or call.method != "POST":
            refuse(400, "UnknownOperationException", "")
        if call.headers.get("content-type") != "application/x-amz-json-1.1":
            refuse(404, "UnknownOperationException", "")
        self._throttle(refuse)
        principal = self._principal(call, service, refuse)
        try:
            body: object = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            refuse(400, "SerializationException", "The request is not valid JSON")
        return handler(principal, fields_of(body, refuse), refuse)

    def _throttle(self, refuse: Refuse) -> None:
        if self.settings["rate_limits"]:
            self._limit.limit = int(self.number("calls_per_second"))
            if self._limit.take(self._host_clock()):
                refuse(400, "Throttling", "Rate exceeded")

    # -- signatures -------------------------------------------------------------------------------------------------

    def _principal(self, call: Call, service: str, refuse: Refuse) -> AwsPrincipal:
        """Return who signed ``call``. Raises `RefusedCall` for a signature that is not right in every part."""
        claim = sigv4.claimed(call, refuse)
        secret, principal = self._known(call, claim, refuse)
        region = str(self.settings["endpoint_region"])
        if region and claim.region != region:
            refuse(403, "SignatureDoesNotMatch", f"Credential should be scoped to a valid region, not '{claim.region}'.")
        try:
            sigv4.check(call, claim, service, self.clock(), refuse)
        except RefusedCall as refusal:
            if self.settings["clock_error"] == "RequestExpired" and b"Signature expired" in refusal.reply.content:
                refuse(400, "RequestExpired", "Request has expired.")
            raise
        sigv4.verify(call, claim, secret, refuse)
        return principal

    def _known(self, call: Call, claim: sigv4.Claimed, refuse: Refuse) -> tuple[str, AwsPrincipal]:
        key, session = self.records["keys"].get(claim.key), self._tokens.sessions.get(claim.key)
        invalid = "The security token included in the request is invalid."
        if session is not None:
            if call.headers.get("x-amz-security-token") != session.token:
                refuse(403, "InvalidClientTokenId", invalid)
            if session.ends_at <= self.clock():
                refuse(403, "ExpiredToken", "The security token included in the request is expired")
            role = self.records["roles"].get(session.role)
            if role is None:
                refuse(403, "InvalidClientTokenId", invalid)
            return session.secret, AwsPrincipal(
                session.arn, f"{role['id']}:{session.name}", claim.region, role["policies"], session.role
            )
        if key is None or not key["active"] or "x-amz-security-token" in call.headers:
            refuse(403, "InvalidClientTokenId", invalid)
        user = self.records["users"][key["user"]]
        return key["secret"], AwsPrincipal(key["user"], user["id"], claim.region, user["policies"])


__all__ = ["Aws"]
