"""How GitHub sends an event: form or JSON, signed, ten seconds to answer, no second try."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import orjson

from reconciler.sandbox.github.records import StoredHook

DELIVERY_S = 10.0


def signed(hook: StoredHook, event: str, payload: Mapping[str, object], guid: str) -> tuple[bytes, dict[str, str]]:
    """Return the body of a delivery and its headers; signed if the hook has a secret."""
    content = orjson.dumps(payload)
    form = hook["config"].get("content_type") != "json"
    if form:
        content = b"payload=" + quote(content, safe="").encode()
    headers = {
        "Accept": "*/*",
        "User-Agent": "GitHub-Hookshot/5ad0b01",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid,
        "X-GitHub-Hook-ID": str(hook["id"]),
        "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
    }
    secret = hook["config"].get("secret")
    if secret:
        headers["X-Hub-Signature"] = "sha1=" + hmac.new(secret.encode(), content, hashlib.sha1).hexdigest()
        headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    return content, headers


def post(url: str, content: bytes, headers: Mapping[str, str], *, insecure: bool) -> tuple[int, str]:
    """Send a delivery; returns status and the start of the answer. Raises `OSError` or `HTTPException`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, parts.port, timeout=DELIVERY_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=DELIVERY_S)
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body=content, headers=dict(headers)
        )
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode("utf-8", "replace")
    finally:
        connection.close()
