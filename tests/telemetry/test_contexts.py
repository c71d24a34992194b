"""Ids, contexts, sampling and the names of attributes: without a daemon."""

import dataclasses

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from reconciler.config.load import load_config
from reconciler.config.settings import TelemetryConfig
from reconciler.credentials.redact import MASK, Redactor
from reconciler.daemon.telemetry import open_tracer
from reconciler.drivers.http.spans import request_span
from reconciler.events.traces import event_context, event_spans, with_sender, with_trace
from reconciler.model.errors import ConfigError
from reconciler.model.events import Delivery, Event, EventState, Origin, RejectedBy
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result
from reconciler.model.incidents import Incident, IncidentSeverity, Notice, NoticePhase, Topic
from reconciler.model.resources import ResourceId
from reconciler.model.traces import Attribute, Sampling, TraceContext, ids_of_event, parse_traceparent, span_id_of
from reconciler.notifications.traces import notice_spans
from reconciler.stages.traces import ended_wait, finished, item_context
from reconciler.state.routing import Routing
from reconciler.telemetry import loading
from reconciler.telemetry.exporter import collector_session
from reconciler.telemetry.otlp import CONVENTIONS, OURS
from reconciler.telemetry.recorder import Recorder
from reconciler.tracing import NO_TRACER, current, span, within

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SOURCE, STAGE = ResourceId("EventSource", "default", "web"), ResourceId("Stage", "default", "build")
EVENT = Event("e1", SOURCE, "d1", "push", Origin.DELIVERED, EventState.PENDING, 10.0)
ITEM = Item("itm-1", STAGE, "e1", "web", ItemState.QUEUED, 11.0, "rev", "sha256:s")
EXECUTION = Execution("rcl-1", "itm-1", STAGE, ExecutionState.FINISHED, 12.0, "sha256:s", "rev", finished_at=20.0)


def recorder(**changes: object) -> Recorder:
    return Recorder(dataclasses.replace(TelemetryConfig(), enabled=True, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"0-{TRACE}-{SPAN}-01",
        f" {PARENT}",
        f"{PARENT}\n",
        f"{PARENT}, {PARENT}",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 1000,
        f"00-{TRACE}-{SPAN}-٠١",
    ],
)
def test_an_invalid_traceparent_has_no_meaning(text: str) -> None:
    assert parse_traceparent(text) is None


def test_a_valid_traceparent_is_read_and_written_alike() -> None:
    assert parse_traceparent(PARENT) == TraceContext(TRACE, SPAN)
    assert TraceContext(TRACE, SPAN).traceparent == PARENT
    assert parse_traceparent(PARENT[:-2] + "00") == TraceContext(TRACE, SPAN, sampled=False)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-09-what-the-future-brings") == TraceContext(TRACE, SPAN)


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.5, 1.0])
def test_sampling_is_that_of_opentelemetry(ratio: float) -> None:
    theirs, ours = TraceIdRatioBased(ratio), Sampling(ratio)
    for number in range(500):
        trace = ids_of_event(str(number))[0]
        kept = theirs.should_sample(None, int(trace, 16), "x").decision is Decision.RECORD_AND_SAMPLE
        assert ours.keeps(trace) == kept


def test_with_a_ratio_of_zero_no_trace_is_kept() -> None:
    assert not Sampling(0.0).keeps("f" * 16 + "0" * 16)
    assert Sampling(1.0).keeps("f" * 32)


def test_every_attribute_has_one_name() -> None:
    assert set(CONVENTIONS) | set(OURS) == set(Attribute)
    assert not set(CONVENTIONS) & set(OURS)
    assert len({*CONVENTIONS.values(), *OURS.values()}) == len(Attribute)


@pytest.mark.parametrize(("incoming", "trace", "links"), [("link", "", 1), ("parent", TRACE, 0), ("ignore", "", 0)])
def test_the_trace_of_a_sender_is_linked_joined_or_ignored(incoming: str, trace: str, links: int) -> None:
    tracer = recorder(incoming=incoming)
    delivery = with_sender(tracer, Delivery("d1", "push", b"{}"), {"traceparent": PARENT})
    event = dataclasses.replace(EVENT, trace=delivery.trace)
    first, *_ = event_spans(tracer, {"e1": event}, 11.0, [Routing("e1")], 12.0)
    assert first.trace_id == (trace or ids_of_event("e1")[0])
    assert first.parent_id == (SPAN if trace else "")
    assert len(first.links) == links
    assert with_sender(tracer, Delivery("d1", "push", b"{}"), {"traceparent": "00-nonsense"}).trace == ""


def test_a_sender_decides_about_sampling_only_as_a_parent() -> None:
    unsampled = dataclasses.replace(EVENT, trace=PARENT[:-2] + "00")
    assert event_spans(recorder(incoming="parent"), {"e1": unsampled}, 11.0, [Routing("e1")], 12.0) == []
    assert len(event_spans(recorder(), {"e1": unsampled}, 11.0, [Routing("e1")], 12.0)) == 1


def test_a_replayed_event_has_a_span_of_its_own_in_the_same_trace() -> None:
    tracer = recorder()
    first, again = event_context(tracer, EVENT), event_context(tracer, dataclasses.replace(EVENT, replays=1))
    assert first.trace_id == again.trace_id
    assert first.span_id != again.span_id


def test_the_decision_tells_who_refused() -> None:
    refusals = tuple(
        RejectedBy("e1", ResourceId("Stage", "default", f"s{n}"), "filtered", "secret text", 11.5) for n in range(50)
    )
    _, decision = event_spans(recorder(), {"e1": EVENT}, 11.0, [Routing("e1", rejections=refusals)], 12.0)
    assert decision.attributes[Attribute.OUTCOME] == "refused"
    assert len(decision.events) == 20
    assert "secret text" not in str(decision)


def test_a_failed_event_is_an_error() -> None:
    routing = Routing("e1", EventState.QUARANTINED, "overrun", "why")
    first, _ = event_spans(recorder(), {"e1": EVENT}, 11.0, [routing], 12.0)
    assert first.error == "overrun"


def test_an_item_names_the_span_of_its_event_or_else_computes_it() -> None:
    tracer = recorder()
    routing = with_trace(tracer, EVENT, Routing("e1", items=(ITEM,)))
    assert item_context(tracer, routing.items[0]) == item_context(tracer, ITEM) == event_context(tracer, EVENT)
    assert item_context(NO_TRACER, ITEM) is None


@pytest.mark.parametrize(
    ("result", "why", "told", "error"),
    [
        (Result.PASSED, EndReason.OK, "success", ""),
        (Result.FAILED, EndReason.FAILED, "failure", "failed"),
        (Result.FAILED, EndReason.TIMED_OUT, "timeout", "timed-out"),
        (Result.FAILED, EndReason.LOST, "error", "lost"),
        (Result.CANCELLED, EndReason.USER, "cancellation", ""),
    ],
)
def test_results_are_those_of_the_conventions(result: Result, why: EndReason, told: str, error: str) -> None:
    done = dataclasses.replace(EXECUTION, result=result, why=why)
    (run,) = finished(recorder(), None, ITEM, done)
    assert (run.attributes[Attribute.RESULT], run.error) == (told, error)
    assert (run.start, run.end) == (12.0, 20.0)


def test_an_attempt_waits_from_the_end_of_the_one_before() -> None:
    second = dataclasses.replace(ITEM, attempt=2, queued_at=20.0)
    first, again = (ended_wait(recorder(), item, (), None, now=25.0)[0] for item in (ITEM, second))
    assert (first.start, again.start) == (11.0, 20.0)
    assert first.span_id != again.span_id
    (gone,) = ended_wait(recorder(), ITEM, (), None, now=25.0, discarded="superseded")
    assert gone.attributes[Attribute.REASON] == "superseded"


def test_unsampled_traces_make_no_spans() -> None:
    tracer = recorder(sample_ratio=0.0)
    assert event_spans(tracer, {"e1": EVENT}, 11.0, [Routing("e1")], 12.0) == []
    assert ended_wait(tracer, ITEM, (), None, now=25.0) == []
    assert finished(tracer, None, ITEM, dataclasses.replace(EXECUTION, result=Result.PASSED, why=EndReason.OK)) == []
    with span(tracer, "reconcile", {}):
        assert current() is not None
    assert len(tracer) == 0


def test_a_live_span_is_recorded_with_its_error_and_restores_the_place_before_it() -> None:
    tracer = recorder()
    above = TraceContext(TRACE, SPAN)
    with within(above):
        with pytest.raises(ConfigError), span(tracer, "plan", {}):
            assert current() != above
            raise ConfigError("a secret text")
        assert current() == above
    assert current() is None
    (record,) = tracer.first(5)
    assert (record.trace_id, record.parent_id, record.error) == (TRACE, SPAN, "RC3010")
    assert "secret" not in str(record)


def test_only_named_hosts_are_told_the_trace() -> None:
    tracer = recorder(propagate=("deploy.example.com", "*.svc.example"))
    assert [tracer.propagates(host) for host in ("deploy.example.com", "A.svc.example", "svc.example", "api.github.com")] == [
        True,
        True,
        False,
        False,
    ]
    assert not recorder().propagates("api.github.com")


def test_ids_are_stable_over_versions() -> None:
    """A trace goes on over an upgrade."""
    assert ids_of_event("e1")[0] == "4cf42906c3a2d5ed00f4c2858796e92c"
    assert ids_of_event("e1")[1] == "57ce1ed7e9bb237a"
    assert span_id_of("queue", "itm-1", 1) == "0b99c3acdac374e6"


# -- configuration --------------------------------------------------------------------------------------------------------


def telemetry(env: dict[str, str], **overrides: str) -> TelemetryConfig:
    given = {"source.url": "manifests", "telemetry.enabled": "true", **{f"telemetry.{k}": v for k, v in overrides.items()}}
    return load_config(None, {"RECONCILER_TELEMETRY_ENABLED": given.pop("telemetry.enabled"), **env}, overrides=given).telemetry


def test_standard_variables_give_what_ours_do_not() -> None:
    found = telemetry(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example.com/base/",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc,x-a=b",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=prod",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "RECONCILER_TELEMETRY_COMPRESSION": "gzip",
        }
    )
    assert found.endpoint == "https://otel.example.com/base/v1/traces"
    assert found.headers == ("authorization=Bearer abc", "x-a=b")
    assert (found.timeout, found.compression, found.service_name) == (2.5, "gzip", "other")
    assert found.attributes == ("deployment.environment.name=prod",)
    assert found.sample_ratio == 0.25


def test_standard_variables_do_not_switch_tracing_on_but_off() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "nonsense", "OTEL_TRACES_SAMPLER": "nonsense"}
    assert load_config(None, env, overrides={"source.url": "manifests"}).telemetry == TelemetryConfig()
    assert not telemetry({"OTEL_SDK_DISABLED": "true", **env}).enabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("RECONCILER_TELEMETRY_ENDPOINT", "http://user:hunter2@collector/v1/traces"),
        ("RECONCILER_TELEMETRY_ENDPOINT", "collector:4318"),
        ("RECONCILER_TELEMETRY_ENDPOINT", "http://collector:4318"),
        ("RECONCILER_TELEMETRY_HEADERS", "authorization"),
        ("RECONCILER_TELEMETRY_HEADERS", "content-length=3"),
        ("RECONCILER_TELEMETRY_HEADERS", "x y=hunter2"),
        ("RECONCILER_TELEMETRY_SAMPLE_RATIO", "1.5"),
        ("RECONCILER_TELEMETRY_TIMEOUT", "10m"),
        ("RECONCILER_TELEMETRY_PROPAGATE", "https://deploy.example.com"),
    ],
)
def test_an_invalid_value_is_an_error_that_does_not_repeat_a_secret(name: str, value: str) -> None:
    more = {"OTEL_TRACES_SAMPLER": "traceidratio"} if name.endswith("_ARG") else {}
    with pytest.raises(ConfigError) as raised:
        telemetry({name: value, **more})
    told = str(raised.value) + str(raised.value.location)
    assert name in told
    assert "hunter2" not in told


def test_without_the_extra_the_error_tells_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "reconciler.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.common.trace_encoder", None)
    with pytest.raises(ConfigError, match="not installed") as raised:
        loading.load_encoder(load_config(None, {}, overrides={"source.url": "m"}), "x", dict)  # type: ignore[arg-type]
    assert raised.value.code == "RC3012"
    assert loading.INSTALL in raised.value.hint


def test_a_defect_in_a_span_costs_the_span_and_not_the_event() -> None:
    tracer = recorder()
    broken = dataclasses.replace(EVENT, received_at="yesterday")  # type: ignore[arg-type]
    assert event_spans(tracer, {"e1": broken}, 11.0, [Routing("e1")], 12.0) == []
    assert tracer.counts["dropped"] == 1


def test_the_message_of_an_execution_belongs_to_its_trace() -> None:
    incident = Incident(
        "i1", "Notification/default/ops", "k", Topic.STAGE_FAILED, IncidentSeverity.ERROR, "t", "r", changed_at=5.0
    )
    below = dataclasses.replace(incident, trace=PARENT)
    (own,) = notice_spans(recorder(), Notice(1, NoticePhase.START, below), "slack", 9.0)
    assert (own.trace_id, own.parent_id, own.name, own.start) == (TRACE, SPAN, "notify slack", 5.0)
    (alone,) = notice_spans(recorder(), Notice(1, NoticePhase.START, incident), "slack", 9.0)
    assert alone.parent_id == ""
    assert notice_spans(recorder(), Notice(1, NoticePhase.START, below, refresh=True), "slack", 9.0) == []


def test_a_collector_that_hangs_does_not_make_the_process_look_dead() -> None:
    from reconciler.config.checks import MAX_EXPORT_S
    from reconciler.daemon.telemetry import LIMIT_S
    from reconciler.telemetry.exporter import HOLD_S, LEASE_S, LONGEST_RETRY_S

    assert LIMIT_S > 1.5 * (LONGEST_RETRY_S + HOLD_S + MAX_EXPORT_S)
    assert LEASE_S > MAX_EXPORT_S


def test_the_span_of_a_request_has_neither_credentials_nor_query() -> None:
    tracer = recorder()
    with request_span(tracer, "GET", "https://ada:canary-1@api.example:8443/repos/web?token=canary-2#canary-3", "github"):
        pass
    (made,) = tracer.first(1)
    assert made.attributes[Attribute.URL] == "https://api.example:8443/repos/web"
    assert "canary" not in str(made)


def test_the_token_of_a_header_is_masked_alone_and_with_its_scheme() -> None:
    redactor = Redactor()
    config = load_config(
        None,
        {},
        overrides={"source.url": "x", "telemetry.enabled": "true", "telemetry.headers": "authorization=Custom canary-token-1"},
    )
    assert open_tracer(config, redactor).on
    assert redactor.redact("it answered canary-token-1") == f"it answered {MASK}"


@pytest.mark.parametrize(("endpoint", "used"), [("https://otel.example/v1/traces", True), ("http://otel:4318/v1/traces", False)])
def test_a_proxy_is_used_for_an_endpoint_outside_of_the_network(endpoint: str, used: bool) -> None:
    keys = {"source.url": "x", "telemetry.enabled": "true", "telemetry.endpoint": endpoint, "network.proxy": "http://proxy:3128"}
    session = collector_session(load_config(None, {}, overrides=keys))
    assert session._proxy == ("http://proxy:3128" if used else None)
