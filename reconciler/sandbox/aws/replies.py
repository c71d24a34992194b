"""Answers of AWS: XML of the Query protocol (Security Token Service), and the JSON 1.1 protocol of other services.

Facts: AWS STS API Reference, "Common Errors" of STS, Secrets Manager and Systems Manager.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import NoReturn
from xml.sax.saxutils import escape

from reconciler.sandbox.app import RefusedCall, Reply

XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"
JSON = "application/x-amz-json-1.1"
JSON_CODES: Mapping[str, tuple[int, str]] = {
    "MissingAuthenticationToken": (400, "MissingAuthenticationTokenException"),
    "IncompleteSignature": (400, "IncompleteSignatureException"),
    "InvalidClientTokenId": (400, "UnrecognizedClientException"),
    "SignatureDoesNotMatch": (400, "InvalidSignatureException"),
    "RequestExpired": (400, "InvalidSignatureException"),
    "ExpiredToken": (400, "ExpiredTokenException"),
    "Throttling": (400, "ThrottlingException"),
    "AccessDenied": (400, "AccessDeniedException"),
    "ValidationError": (400, "ValidationException"),
    "InvalidAction": (400, "UnknownOperationException"),
}
"""Codes of the Query protocol → status and name in the JSON protocol."""


def xml(action: str, result: str) -> Reply:
    """Return a successful answer of the Query protocol."""
    number = uuid.uuid4()
    body = (
        f'<{action}Response xmlns="{XMLNS}">\n  <{action}Result>{result}</{action}Result>\n'
        f"  <ResponseMetadata><RequestId>{number}</RequestId></ResponseMetadata>\n</{action}Response>"
    )
    return Reply(200, body, {"content-type": "text/xml", "x-amzn-requestid": str(number)})


def element(name: str, text: object) -> str:
    """Return an element with escaped text."""
    return f"<{name}>{escape(str(text))}</{name}>"


def json_reply(body: object, status: int = 200) -> Reply:
    """Return an answer of the JSON protocol."""
    return Reply(status, body, {"content-type": JSON, "x-amzn-requestid": str(uuid.uuid4())})


class Refuse:
    """Refuses requests in the words and the protocol of a service."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def __call__(self, status: int, code: str, message: str) -> NoReturn:
        """Raise the refusal; ``code`` is that of the Query protocol."""
        raise RefusedCall(self.reply(status, code, message))

    def reply(self, status: int, code: str, message: str) -> Reply:
        """Return the refusal."""
        if self.json:
            status, code = JSON_CODES.get(code, (status, code))
            key = (
                "Message"
                if code in {"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException"}
                else "message"
            )
            return json_reply({"__type": code, **({key: message} if message else {})}, status)
        number = uuid.uuid4()
        body = (
            f'<ErrorResponse xmlns="{XMLNS}">\n  <Error>\n    <Type>{"Sender" if status < 500 else "Receiver"}</Type>\n'
            f"    {element('Code', code)}\n    {element('Message', message)}\n  </Error>\n"
            f"  <RequestId>{number}</RequestId>\n</ErrorResponse>"
        )
        return Reply(status, body, {"content-type": "text/xml", "x-amzn-requestid": str(number)})
