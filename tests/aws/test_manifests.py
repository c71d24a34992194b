"""Sessions that AWS would refuse are errors of the manifest, each at its place."""

from __future__ import annotations

import pytest

from reconciler.manifests.feasible import impossible
from reconciler.manifests.kinds import IntegrationSpec
from reconciler.manifests.normalize import canonical_spec
from reconciler.model.codec import from_json

ROLE = "arn:aws:iam::123456789012:role/x"
KEYS = {
    "id": {"valueFrom": {"secret": {"name": "a", "key": "i"}}},
    "secret": {"valueFrom": {"secret": {"name": "a", "key": "s"}}},
}


def pointers(auth: dict[str, object]) -> list[str]:
    raw, lifecycle = canonical_spec("Integration", {"type": "aws", "auth": auth})
    return [found.pointer for found in impossible(from_json(IntegrationSpec, raw), raw, lifecycle)]


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ("12h", "1h", []),
        (900, None, []),
        ("14m", None, ["0"]),
        ("13h", None, ["0"]),
        (0, None, ["0"]),
        ("2h", "61m", ["1"]),
        ("1m", "9000s", ["0", "1"]),
    ],
)
def test_the_first_session_may_be_long_and_a_chained_one_an_hour(first: object, second: object, wrong: list[str]) -> None:
    roles: list[dict[str, object]] = [{"arn": ROLE, "duration": first}]
    if second is not None:
        roles.append({"arn": ROLE, "duration": second})
    found = pointers({"use": "access-key", "accessKey": KEYS, "roleAssumptions": roles})
    assert found == [f"/spec/auth/roleAssumptions/{index}/duration" for index in wrong]


def test_every_role_after_a_web_identity_is_chained() -> None:
    oidc = {"audience": "a", "roleArn": ROLE, "duration": "12h"}
    assert pointers({"use": "oidc", "oidc": oidc}) == []
    roles = [{"arn": ROLE, "duration": "2h"}]
    assert pointers({"use": "oidc", "oidc": oidc, "roleAssumptions": roles}) == ["/spec/auth/roleAssumptions/0/duration"]
    assert pointers({"use": "oidc", "oidc": {**oidc, "duration": "13h"}}) == ["/spec/auth/oidc/duration"]
