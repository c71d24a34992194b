"""Verification of Signature Version 4 in the ``Authorization`` header, written from its specification.

Facts: IAM User Guide, "Create a signed AWS API request". Signatures in the query (presigned URLs) are not part of this simulator.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from reconciler.sandbox.app import Call
from reconciler.sandbox.aws.replies import Refuse

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_S = 900
_HEADER = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>\w+)/(?P<day>\d{{8}})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;_-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_MUST_SIGN = frozenset({"host", "x-amz-date"})
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_FORM = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the header says of the signature, before it is verified."""

    key: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str


def claimed(call: Call, refuse: Refuse) -> Claimed:
    """Return the parts of the header, if it has the right form."""
    header = call.headers.get("authorization", "")
    if not header:
        refuse(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    match = _HEADER.fullmatch(header)
    if match is None:
        refuse(
            400, "IncompleteSignature", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
        )
    signed = tuple(match["signed"].split(";"))
    if "x-amz-date" not in call.headers:
        refuse(400, "IncompleteSignature", "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    return Claimed(match["key"], match["day"], match["region"], match["service"], signed, match["signature"])


def check(call: Call, claim: Claimed, service: str, now: float, refuse: Refuse) -> None:
    """Refuse a signature for another service or place, one that leaves out a header, and one that is not of this time."""
    if claim.service != service:
        refuse(403, "SignatureDoesNotMatch", f"Credential should be scoped to correct service: '{service}'.")
    if not _REGION.fullmatch(claim.region):
        refuse(403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region.")
    amazon = {name for name in call.headers if name.startswith("x-amz-")}
    missing = sorted((_MUST_SIGN | amazon) - set(claim.signed))
    if missing or list(claim.signed) != sorted(claim.signed):
        refuse(403, "SignatureDoesNotMatch", f"'{', '.join(missing)}' must be a 'SignedHeader' in the AWS Authorization.")
    text = call.headers["x-amz-date"]
    try:
        at = dt.datetime.strptime(text, _FORM).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        refuse(400, "IncompleteSignature", f"Date must be in ISO-8601 'basic format'. Got '{text}'.")
    if not text.startswith(claim.day):
        refuse(
            403,
            "SignatureDoesNotMatch",
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: '{text}'.",
        )
    here = _text(now)
    if at < now - SKEW_S:
        limit = _text(now - SKEW_S)
        refuse(403, "SignatureDoesNotMatch", f"Signature expired: {text} is now earlier than {limit} ({here} - 15 min.)")
    if at > now + SKEW_S:
        limit = _text(now + SKEW_S)
        refuse(403, "SignatureDoesNotMatch", f"Signature not yet current: {text} is still later than {limit} ({here} + 15 min.)")


def verify(call: Call, claim: Claimed, secret: str, refuse: Refuse) -> None:
    """Refuse a request that ``secret`` did not sign as it is."""
    scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(_canonical(call, claim.signed).encode()).hexdigest()
    text = "\n".join((ALGORITHM, call.headers["x-amz-date"], scope, digest))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), claim.signature):
        refuse(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
            "signing method. Consult the service documentation for details.",
        )


def _canonical(call: Call, signed: tuple[str, ...]) -> str:
    headers = "".join(f"{name}:{' '.join(call.headers.get(name, '').split())}\n" for name in signed)
    body = hashlib.sha256(call.body).hexdigest()
    return "\n".join((call.method, quote(call.path, safe="/-_.~"), _query(call.query), headers, ";".join(signed), body))


def _query(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _text(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime(_FORM)
