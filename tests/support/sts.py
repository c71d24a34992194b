"""A Security Token Service of AWS for tests of refusals: it knows its access keys, roles and trusted subjects. The real peer is moto."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from reconciler.sandbox.app import Call, Reply, Route, Simulator
from reconciler.sandbox.relying import InvalidIdToken, verify

KEY_ID, SECRET = "AKIA" + "Q" * 16, "canary-secret-access-key-71"
ROLE = "arn:aws:iam::123456789012:role/first"
XML = {"content-type": "text/xml"}


def refused(status: int, code: str, message: str) -> Reply:
    body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return Reply(status, body, XML)


class SecurityTokens(Simulator):
    """State: ``keys`` (ids), ``trusted`` (subjects that may assume `ROLE`), ``issuers``."""

    provider = "aws"

    def seed(self) -> dict[str, object]:
        return {"keys": {KEY_ID: "user/ci"}, "trusted": [], "issuers": {}}

    def routes(self) -> Iterable[Route]:
        return [("GET", "/", self._call), ("POST", "/", self._call)]

    def _call(self, call: Call) -> Reply:
        form = {**call.query, **{name: values[0] for name, values in parse_qs(call.body.decode()).items()}}
        state: dict[str, Any] = self.state
        if form["Action"] == "AssumeRoleWithWebIdentity":
            return self._with_token(form)
        credential = call.headers.get("authorization", "").partition("Credential=")[2].split("/")[0]
        owner = state["keys"].get(credential)
        if owner is None:
            return refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        if form["Action"] == "AssumeRole":
            return self._session("AssumeRole")
        arn = f"arn:aws:sts::123456789012:{owner}"
        result = f"<UserId>x</UserId><Account>123456789012</Account><Arn>{arn}</Arn>"
        body = (
            f"<GetCallerIdentityResponse><GetCallerIdentityResult>{result}</GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
        return Reply(200, body, XML)

    def _with_token(self, form: Mapping[str, str]) -> Reply:
        state: dict[str, Any] = self.state
        try:
            claims = verify(form["WebIdentityToken"], frozenset({"RS256"}), state["issuers"])
        except InvalidIdToken:
            return refused(400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider")
        if claims["aud"] != "sts.amazonaws.com":
            return refused(400, "InvalidIdentityToken", "Incorrect token audience")
        if claims["sub"] not in state["trusted"]:
            return refused(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        return self._session("AssumeRoleWithWebIdentity")

    def _session(self, action: str) -> Reply:
        state: dict[str, Any] = self.state
        key = f"ASIA{len(state['keys']):016d}"
        state["keys"][key] = "assumed-role/first/session"
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        keys = f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        result = f"<{action}Result><Credentials>{keys}<Expiration>{end}</Expiration></Credentials></{action}Result>"
        return Reply(200, f"<{action}Response>{result}</{action}Response>", XML)
