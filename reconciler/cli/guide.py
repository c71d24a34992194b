"""The groups of verbs in ``--help``, and an example of each verb: `VERBS` holds their options.

docs/generate.py writes both into docs/cli.md. Tests check that every verb is in one group, and that every example is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "set up": ("demo", "init", "app", "doctor", "schema", "sandbox", "completion", "version"),
    "plan and apply": ("validate", "plan", "drift", "apply", "run", "approve", "review"),
    "look": ("status", "explain", "history", "credentials", "healthcheck"),
    "events and stages": (
        "events",
        "executions",
        "logs",
        "trigger",
        "cancel",
        "rerun",
        "replay",
        "redeliver",
        "ping",
        "notify",
    ),
    "repair": (
        "reconcile",
        "suspend",
        "resume",
        "adopt",
        "forget",
        "recover",
        "export",
        "accept-drift",
        "orphans",
        "backup",
        "restore",
    ),
    "identity": ("signing-key", "rotate", "oidc"),
}
"""Names of verbs by the title of their group, in the order in which ``--help`` shows them."""

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("reconciler demo", "reconciler demo --keep"),
    "init": ("reconciler init integrations",),
    "validate": ("reconciler validate", "reconciler validate -o github .", "reconciler validate github/sources.yaml"),
    "plan": ("reconciler plan", "reconciler plan --repo . --base origin/main -o markdown", "reconciler plan --detailed-exitcode"),
    "drift": ("reconciler drift", "reconciler drift --detailed-exitcode -o json"),
    "apply": ("reconciler apply", "reconciler apply --yes", "reconciler apply --plan sha256:0f3c…"),
    "run": ("reconciler run", "reconciler run --config /etc/reconciler/reconciler.yaml", "reconciler run --once"),
    "status": ("reconciler status --watch", "reconciler status EventSource/payments", "reconciler status --exit-code -o json"),
    "backup": ("reconciler backup /backup/state-1.db",),
    "restore": ("reconciler restore /backup/state-1.db", "reconciler restore --yes"),
    "explain": ("reconciler explain EventSource/payments",),
    "history": ("reconciler history", "reconciler history EventSource/payments --limit 10 --utc", "reconciler history --verify"),
    "reconcile": ("reconciler reconcile EventSource/payments --wait",),
    "suspend": ("reconciler suspend Integration/github --reason 'migration' --until 2h",),
    "resume": ("reconciler resume Integration/github",),
    "events": ("reconciler events", "reconciler events --source payments --state rejected", "reconciler events 019abc… -o json"),
    "executions": (
        "reconciler executions",
        "reconciler executions --stage deploy --state queued",
        "reconciler executions itm-5d41402abc4b2a76b9719d91",
    ),
    "logs": ("reconciler logs itm-5d41402abc4b2a76b9719d91 --follow",),
    "trigger": (
        "reconciler trigger nightly",
        "reconciler trigger release --payload @release.json --wait --timeout 900",
    ),
    "approve": (
        "reconciler approve itm-5d41402abc4b2a76b9719d91 --digest sha256:77ab…",
        "reconciler approve sha256:0f3c…",
    ),
    "cancel": ("reconciler cancel itm-5d41402abc4b2a76b9719d91",),
    "rerun": ("reconciler rerun itm-5d41402abc4b2a76b9719d91 --wait",),
    "replay": ("reconciler events --state failed", "reconciler replay 0192f3c4a1b2-000001a1b2c3d4e5"),
    "redeliver": ("reconciler redeliver", "reconciler redeliver payments --since 2h"),
    "adopt": ("reconciler adopt EventSource/billing", "reconciler adopt EventSource/billing --external-id 12345 --yes"),
    "forget": ("reconciler forget EventSource/old --yes",),
    "recover": ("reconciler recover",),
    "export": (
        "reconciler export github --scope acme/web --out github/existing.yaml",
        "reconciler export github --scope acme/web --scope acme/shop",
    ),
    "accept-drift": ("reconciler accept-drift EventSource/payments --dry-run",),
    "signing-key": ("reconciler signing-key EventSource/releases",),
    "rotate": ("reconciler rotate EventSource/payments --dir .",),
    "oidc": (
        "reconciler oidc export public",
        "reconciler oidc trust vault Secret/deploy",
        "reconciler oidc token Integration/cloud --show",
        "reconciler oidc rotate",
    ),
    "app": (
        "reconciler app create --org acme",
        "reconciler app create --org acme --permission checks=write",
        "reconciler app create --user octocat --no-browser --port 8099",
        "reconciler app status",
        "reconciler app status Integration/github -o json",
    ),
    "notify": ("reconciler notify test ops", "reconciler notify test ops@payments"),
    "orphans": ("reconciler orphans", "reconciler orphans --delete"),
    "ping": ("reconciler ping EventSource/payments",),
    "review": ("reconciler review 42", "reconciler review 42 -o json"),
    "credentials": ("reconciler credentials", "reconciler credentials --until 90d -o json"),
    "doctor": ("reconciler doctor",),
    "schema": ("reconciler schema EventSource", "reconciler schema --list", "reconciler schema --editor"),
    "sandbox": ("reconciler sandbox", "reconciler sandbox github --port 9000"),
    "healthcheck": ("reconciler healthcheck --max-age 60",),
    "version": ("reconciler version",),
    "completion": (
        'eval "$(reconciler completion bash)"',
        'eval "$(reconciler completion zsh)"',
        "reconciler completion fish | source",
    ),
}
"""Commands by verb. The first is shown by the help of the verb."""
