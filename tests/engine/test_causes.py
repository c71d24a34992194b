"""Why a resource is not ready: what a credential means for an Integration, and for the resources that use it."""

import pytest

from reconciler.engine.causes import findings_of
from reconciler.engine.conditions import conditions_of
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.shares import Share
from reconciler.engine.view import Facts
from reconciler.model.errors import AuthFailed
from reconciler.model.resources import Location, Resource, ResourceId
from reconciler.model.status import Condition, ConditionStatus, ConditionType, CredentialReport

INTEGRATION = ResourceId("Integration", "default", "code-host")
SOURCE = ResourceId("EventSource", "default", "payments")
ACCEPTED = CredentialReport(True, "ci-bot")


def conditions(identity: ResourceId, result: ReconcileResult) -> dict[ConditionType, Condition]:
    facts = Facts(ActiveRevision(), {INTEGRATION: result}, {})
    share = Share(Resource(identity, {"type": "github"}, Location("a.yaml")))
    return {one.type: one for one in conditions_of(findings_of(share, result, facts), (), generation=1, now="t")}


@pytest.mark.parametrize("identity", [INTEGRATION, SOURCE], ids=str)
@pytest.mark.parametrize(
    "result",
    [
        ReconcileResult(INTEGRATION, credential=CredentialReport(False, "ci-bot", message="the token was revoked")),
        ReconcileResult(INTEGRATION, credential=ACCEPTED, error=AuthFailed("the token was revoked")),
        ReconcileResult(INTEGRATION, error=AuthFailed("the token was revoked")),
    ],
    ids=["invalid", "refused-later", "refused"],
)
def test_a_dead_credential_is_never_ready(identity: ResourceId, result: ReconcileResult) -> None:
    shown = conditions(identity, result)
    ready, stalled = shown[ConditionType.READY], shown[ConditionType.STALLED]
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "AuthFailed")
    assert stalled.message == "RC5011: the token was revoked"
    if identity == INTEGRATION:
        valid = shown[ConditionType.CREDENTIALS_VALID]
        assert (valid.status, valid.reason, valid.message) == (ConditionStatus.FALSE, "Refused", "the token was revoked")


@pytest.mark.parametrize("identity", [INTEGRATION, SOURCE], ids=str)
def test_an_accepted_credential_is_ready(identity: ResourceId) -> None:
    shown = conditions(identity, ReconcileResult(INTEGRATION, credential=ACCEPTED))
    assert shown[ConditionType.READY].status is ConditionStatus.TRUE
    assert ConditionType.STALLED not in shown
