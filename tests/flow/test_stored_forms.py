"""What earlier versions stored: pinned stages and statuses to write back are read as they were written then."""

from __future__ import annotations

import orjson
import pytest

from reconciler.manifests.kinds import CommitStatusSpec, StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.executions import ReportKind
from reconciler.stages.statuses import NewDeployment, payload_of
from reconciler.state.reports import PendingReport

PINNED = (
    b'{"id":["Stage","default","deploy"],"spec":{"connections":[{"type":"event-source","name":"payments","filters":[{"type":"data",'
    b'"data":{"expression":"$.ref == \\"refs/heads/main\\""}}],"filterOperator":"and"}],"executor":{"type":"github","integration":'
    b'{"name":"code-host"},"resource":{"type":"repository","name":"web"},"spec":{"workflow":"ci.yml","ref":"${{ event.ref }}"}},'
    b'"conditions":[{"type":"approval","approval":{"count":1}},{"type":"time-window","timeWindow":{"start":"09:00","end":"17:00",'
    b'"weekDays":["Monday"],"timeZone":"UTC"}}],"timeout":3600,"retry":{"limit":2,"backoff":30},"outputs":[{"name":"image",'
    b'"required":true}],"report":{"commitStatus":{"context":"deploy"}}},"at":["stages.yaml",1,1],"refs":[["Integration","default",'
    b'"code-host"]],"digest":"sha256:1"}'
)


def test_a_pinned_stage_of_an_earlier_version_is_read_typed() -> None:
    spec = resource_from_json(PINNED).typed(StageSpec)
    assert (spec.executor.type, spec.executor.resource_name, spec.executor.spec["ref"]) == ("github", "web", "${{ event.ref }}")
    assert (spec.timeout, spec.retry and spec.retry.backoff, spec.concurrency, spec.queue) == (3600.0, 30.0, 1, "fifo")
    approval, window = spec.conditions
    assert (approval.approval and approval.approval.count, window.time_window and window.time_window.start) == (1, "09:00")
    assert spec.report is not None
    assert (spec.outputs[0].required, spec.report.commit_status) == (True, CommitStatusSpec(context="deploy"))


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        (
            ReportKind.COMMIT,
            b'{"integration":"Integration/default/gh","repository":"acme/web","target":"","lookup":"refs/tags/v1","context":"c",'
            b'"url":"https://x.example/1","message":"red","label":"v1","stage":"Stage/deploy","failures":2,"failed_at":7.5,'
            b'"error":"503"}',
            ("acme/web", "", "refs/tags/v1", "c", "red", 2, 7.5, None),
        ),
        (
            ReportKind.DEPLOYMENT,
            b'{"integration":"Integration/default/gh","repository":"acme/web","target":"","create":{"ref":"main","environment":'
            b'"production","task":"deploy","description":"","transient":false,"production":null,"through":["Stage/default/deploy"]},'
            b'"environment_url":"","log_url":"","label":"v1","stage":"Stage/deploy"}',
            (
                "acme/web", "", "", "", "", 0, None,
                NewDeployment(ref="main", environment="production", through=("Stage/default/deploy",)),
            ),
        ),
    ],
)  # fmt: skip
def test_a_status_of_an_earlier_version_is_still_written(kind: ReportKind, stored: bytes, expected: tuple[object, ...]) -> None:
    payload = payload_of(PendingReport("itm-1", kind.value, "success", 3, 1.0, orjson.loads(stored)))
    shown = (
        payload.repository,
        payload.target,
        payload.lookup,
        payload.context,
        payload.message,
        payload.failures,
        payload.failed_at,
        payload.create,
    )
    assert shown == expected
