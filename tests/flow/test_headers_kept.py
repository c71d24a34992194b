"""Headers of deliveries: what proves, travels or authenticates is stored nowhere."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from reconciler.drivers.buddy.receiver import BuddyReceiver
from reconciler.drivers.github.receiver import GitHubReceiver, delivery_of
from reconciler.drivers.semaphore.receiver import SemaphoreReceiver
from reconciler.model.events import Delivery
from reconciler.model.secrets import SecretValue
from tests.flow.inside import inside
from tests.flow.test_receiver import delivered

CANARY = "canary-4b1f9e77"
SECRET_HEADERS = (
    "x-github-encoded-secret", "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-hub-signature",
    "x-amz-security-token", "x-gitlab-token", "x-forwarded-for", "forwarded",
)  # fmt: skip


def test_n50_a_github_delivery_keeps_headers_of_a_list_and_no_other() -> None:
    headers = dict.fromkeys(SECRET_HEADERS, CANARY) | {
        "x-anything-else": CANARY,
        "x-github-event": "push",
        "x-github-delivery": "d-1",
    }
    made = delivery_of(headers, b'{"ref": "refs/heads/main"}', 0)  # what comes by the receiver, and what a redelivery is made of
    assert CANARY not in repr(made)
    assert made.headers["x-github-event"] == "push"


@pytest.mark.parametrize("receiver", [GitHubReceiver(), SemaphoreReceiver(), BuddyReceiver()])
def test_n50_what_a_provider_s_receiver_believes_holds_no_header_that_is_not_on_its_list(receiver: object) -> None:
    import hashlib
    import hmac

    key = SecretValue("k" * 43)
    body = orjson.dumps({"secret_key": key.reveal(), "event": "PUSH", "ref": "x"})
    signature = hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest()
    headers = dict.fromkeys(SECRET_HEADERS, CANARY) | {"x-anything-else": CANARY}
    headers |= {"x-hub-signature-256": f"sha256={signature}", "x-semaphore-signature-256": signature, "x-github-event": "push"}
    made = receiver.verify(headers, body, [key], now=0.0)  # type: ignore[attr-defined]
    assert isinstance(made, Delivery)
    assert CANARY not in repr(made)


async def test_n50_no_file_of_the_state_holds_a_header_that_authenticates(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook("own")
        await here.sync()
        headers = {name: CANARY for name in SECRET_HEADERS if name != "x-hub-signature"}
        assert await delivered(here, "own", b'{"a": 1}', {"x-build": "shown", **headers}) == 202
        event = (await here.deps.store.pending_events(1))[0][0]
        assert event.headers["x-build"] == "shown"
        assert not set(event.headers) & set(SECRET_HEADERS)
        for path in here.world.folder.rglob("*"):
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
