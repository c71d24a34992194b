"""Semaphore, as data.

Facts: the provider's documentation of notifications, and its open server code. It publishes no limits, and the server has none.
"""

from reconciler.drivers.capabilities import (
    AccountRule,
    ExecutorRule,
    ExportRule,
    NameRule,
    PayloadPaths,
    ProviderLimits,
    ProviderSpec,
)

EVENTS = ("pipeline_done",)

SPEC = ProviderSpec(
    name="semaphore",
    title="Semaphore",
    spellings=("SEMAPHORE",),
    auth=("token",),
    why_not={"oidc": "Semaphore's API does not accept ID tokens; use token"},
    needs_url=True,
    account=AccountRule(what="Semaphore organization", example="https://ORGANIZATION.semaphoreci.com", domain="semaphoreci.com"),
    hosts=("*.semaphoreci.com",),
    limits=ProviderLimits(concurrent=16),
    sources={
        "project": NameRule(
            pattern=r"(?s:(?!/).*)",
            hint="For many projects use `resource.match`.",
            match=r"(?s:(?!/).*)",
            match_hint="A pattern has `*` and `?`; it is not a regular expression.",
        )
    },
    events=EVENTS,
    payload=PayloadPaths(
        commit={"pipeline_done": (("revision", "pull_request", "head_sha"), ("revision", "commit_sha"))},
        ref={"pipeline_done": (("revision", "reference"),)},
        message=(("revision", "commit_message"),),
        sender=(("revision", "sender", "login"),),
    ),
    executor=ExecutorRule(
        resource="project",
        required=("ref", "task"),
        hint="For example `ref: refs/heads/main`.",
        aliases={"branch": "ref"},
    ),
    guarded=True,
    job_tokens=True,
    export=(
        ExportRule(
            type="semaphore/notification",
            resource="project",
            account=True,
            names=(("rule", "filter", "projects", "*"), ("further_rules", "*", "filter", "projects", "*")),
        ),
    ),
)
