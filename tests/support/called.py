"""A service that stages call: an HTTP server on loopback that verifies who calls, and two verifiers of AWS signatures.

`signature_problem` follows the description of Signature Version 4 in the IAM User Guide and shares no code with botocore;
`botocore_signature` lets botocore sign the request that arrived.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes

UNRESERVED = "-_.~"
SKEW_S = 300


@dataclass(frozen=True)
class Received:
    """One request as it was on the wire. ``headers``: names in lower case, in order, repeated ones too."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return ",".join(value for key, value in self.headers if key == name)

    @property
    def bearer(self) -> str:
        return self.header("authorization").removeprefix("Bearer ")


Answer = tuple[int, Mapping[str, Any] | str, Mapping[str, str]]
"""(status, JSON document or text, headers)"""
Check = Callable[[Received], Answer | None]
"""Returns a refusal (status, body, headers), or None for a caller who is accepted."""


@dataclass
class CalledPeer:
    """The running service. ``replies`` are given to accepted callers, the last one for ever."""

    url: str
    check: Check
    seen: list[Received] = field(default_factory=list)
    replies: list[Answer] = field(default_factory=lambda: [(200, {}, {})])

    def answer(self, request: Received) -> Answer:
        self.seen.append(request)
        return self.check(request) or (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.target}" for request in self.seen]


@contextmanager
def called(check: Check = lambda _request: None) -> Iterator[CalledPeer]:
    """Serve on a free port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            method, target, _ = self.requestline.split(" ")
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = tuple((name.lower(), value) for name, value in self.headers.items())
            status, document, more = peer.answer(Received(method, target, headers, body))
            content = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(content)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    peer = CalledPeer(f"http://127.0.0.1:{server.server_address[1]}", check)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Signer:
    """Who may call with a signature, for which service and region."""

    id: str
    secret: str
    session: str = ""
    service: str = "lambda"
    region: str = "eu-central-1"


def signature_problem(request: Received, signer: Signer, *, now: float | None = None) -> str:
    """Return what is wrong with the signature of ``request``; empty if it is right."""
    scheme, _, rest = request.header("authorization").partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if scheme != "AWS4-HMAC-SHA256" or set(parts) != {"Credential", "SignedHeaders", "Signature"}:
        return "no signature"
    key_id, _, scope = parts["Credential"].partition("/")
    at, signed = request.header("x-amz-date"), parts["SignedHeaders"].split(";")
    if key_id != signer.id:
        return f"unknown key {key_id}"
    if scope != f"{at[:8]}/{signer.region}/{signer.service}/aws4_request":
        return f"another scope: {scope}"
    moment = now if now is not None else dt.datetime.now(dt.UTC).timestamp()
    if abs(dt.datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp() - moment) > SKEW_S:
        return "another time"
    if request.header("x-amz-security-token") != signer.session:
        return "another session"
    needed = {"host", *(name for name, _ in request.headers if name.startswith("x-amz-"))}
    if needed - set(signed) or signed != sorted(signed):
        return f"unsigned: {needed - set(signed)}"
    canonical = "\n".join(
        (
            request.method,
            _path(request.target.partition("?")[0], signer.service),
            _query(request.target.partition("?")[2]),
            *(f"{name}:{','.join(' '.join(v.split()) for k, v in request.headers if k == name)}" for name in signed),
            "",
            parts["SignedHeaders"],
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{signer.secret}".encode()
    for piece in scope.split("/"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    right = hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), parts["Signature"])
    return "" if right else f"another signature; canonical:\n{canonical}"


def _path(path: str, service: str) -> str:
    if service == "s3":
        return "/".join(quote(unquote_to_bytes(part), safe=UNRESERVED) for part in path.split("/"))
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(part)
    normal = "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
    return quote(normal, safe="/" + UNRESERVED)


def _query(query: str) -> str:
    """AWS decodes the parameters and encodes them again."""
    pairs = [pair.replace("+", " ").partition("=")[::2] for pair in query.split("&") if pair]
    encoded = [tuple(quote(unquote_to_bytes(text), safe=UNRESERVED) for text in pair) for pair in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def botocore_signature(request: Received, signer: Signer) -> str:
    """Return the signature that botocore makes for the request that arrived, with its date and its signed headers."""
    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = request.header("authorization").partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.header(name) for name in signed if not name.startswith("x-amz-") and name != "host"}
    kind = S3SigV4Auth if signer.service == "s3" else SigV4Auth
    auth: Any = kind(Credentials(signer.id, signer.secret, signer.session or None), signer.service, signer.region)
    url = f"http://{request.header('host')}{request.target}"
    again = AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    again.context["timestamp"] = request.header("x-amz-date")
    auth._modify_request_before_signing(again)
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))


def aws(*signers: Signer) -> Check:
    """Refuse, as a service with a JSON protocol does, every request that none of ``signers`` has signed."""

    def check(request: Received) -> Answer | None:
        problems = [signature_problem(request, signer) for signer in signers]
        if "" in problems:
            return None
        known = any(f"Credential={signer.id}/" in request.header("authorization") for signer in signers)
        code = "InvalidSignatureException" if known else "UnrecognizedClientException"
        return 403, {"message": "; ".join(problems)}, {"x-amzn-errortype": code}

    return check


__all__ = ["Answer", "CalledPeer", "Check", "Received", "Signer", "aws", "botocore_signature", "called", "signature_problem"]
