"""The table of verbs: names, help texts and options. It imports nothing else of the program, so that ``--help`` is fast.

docs/generate.py writes docs/cli.md from this table, and a test compares the two.
"""

from __future__ import annotations

from reconciler.cli import options
from reconciler.cli.verb import Argument, Verb, count, port, seconds
from reconciler.cli.verb import arg as _arg

SHOWING = frozenset(
    {
        "validate",
        "plan",
        "drift",
        "status",
        "explain",
        "history",
        "events",
        "executions",
        "logs",
        "export",
        "signing-key",
        "credentials",
        "doctor",
        "schema",
        "healthcheck",
        "version",
        "completion",
    }
)
"""Verbs whose work is what they print."""


GLOBALS: tuple[Argument, ...] = (
    _arg("--config", metavar="FILE", help="configuration file (default: ./reconciler.yaml)"),
    _arg("--repo", metavar="URL_OR_DIR", help="source URL or folder, if there is no configuration file"),
    _arg(
        "--log-level", choices=("debug", "info", "warning", "error"), help="log level (default: log.level in the configuration)"
    ),
)

_OUTPUT = _arg("-o", "--output", choices=("text", "json"), default="text", help="output format (default: text)")
_LISTING: tuple[Argument, ...] = (
    _arg(
        "-o",
        "--output",
        choices=("text", "wide", "json", "name"),
        default="text",
        help="output format: wide has more columns and shortens nothing, name prints what other verbs take (default: text)",
    ),
    _arg("--watch", "-w", action="store_true", help="show every change until Ctrl-C"),
    _arg("--utc", action="store_true", help="show times in UTC instead of ages"),
)
_PLAN_OUTPUT = _arg(
    "-o",
    "--output",
    choices=("text", "json", "markdown", "github", "sarif"),
    default="text",
    help="output format (default: text)",
)
_PATH = _arg("path", nargs="?", metavar="PATH", help="folder to read from disk (default: a commit of the configured source)")
_YES = _arg("--yes", "-y", action="store_true", help="do not ask for confirmation")
_RESOURCE = _arg("resource", metavar="KIND/NAME[@CANVAS]", help="for example EventSource/payments")
_DETAILED = _arg(
    "--detailed-exitcode",
    action="store_true",
    help="exit 0: nothing to do, 1: something could not be read, 2: changes pending, 3: only drift, 4: changes blocked",
)


def _waiting(help_text: str) -> tuple[Argument, ...]:
    timeout = _arg(
        "--timeout", type=seconds, default=3600.0, metavar="SECONDS", help="with --wait: give up after this time (default: 3600)"
    )
    return _arg("--wait", action="store_true", help=help_text), timeout


VERBS: tuple[Verb, ...] = (
    Verb(
        "demo",
        "demo.main",
        options.DemoOptions,
        "run a guided demonstration on this machine, without an account",
        (
            _arg("--keep", action="store_true", help="keep the sandbox and the daemon running until Ctrl-C"),
            _arg("--dir", metavar="DIR", help="use this folder instead of a temporary one"),
        ),
    ),
    Verb(
        "init",
        "init",
        options.InitOptions,
        "create a starter repository: manifests, CI workflow, pre-commit hook, editor settings",
        (
            _arg("dir", nargs="?", default=".", metavar="DIR", help="target folder (default: the current folder)"),
            _arg("--force", action="store_true", help="overwrite existing files"),
        ),
    ),
    Verb(
        "validate",
        "validate",
        options.ValidateOptions,
        "check manifests offline: schema, references, expressions, policy",
        (
            _arg("paths", nargs="*", metavar="PATH", help="files or folders (default: the current folder)"),
            _arg(
                "-o",
                "--output",
                choices=("text", "json", "github", "sarif"),
                default="text",
                help="output format (default: text)",
            ),
        ),
    ),
    Verb(
        "plan",
        "plan",
        options.PlanOptions,
        "show what apply would change, and whether a commit or drift causes it; writes nothing at a provider",
        (
            _PATH,
            _arg("--base", metavar="REF", help="compare the manifests with those at REF; needs no credentials and no state"),
            _arg(
                "--snapshot", metavar="FILE", help="plan against a redacted snapshot that the daemon wrote; needs no credentials"
            ),
            _DETAILED,
            _PLAN_OUTPUT,
        ),
    ),
    Verb(
        "drift",
        "plan",
        options.DriftOptions,
        "show how the providers differ from what was applied; read only",
        (
            _PATH,
            _DETAILED,
            _PLAN_OUTPUT,
        ),
    ),
    Verb(
        "apply",
        "apply",
        options.ApplyOptions,
        "make the planned changes; asks for confirmation unless --yes",
        (
            _PATH,
            _arg("--plan", metavar="sha256:…", help="apply only if the plan has this digest; otherwise print the difference"),
            _YES,
            _arg("--no-wait", action="store_true", help="do not wait until writes with unknown outcome are settled"),
            _OUTPUT,
        ),
    ),
    Verb(
        "run",
        "run",
        options.RunOptions,
        "run the daemon; --once reconciles everything once and exits",
        (_arg("--once", action="store_true", help="fetch, plan, apply and write the status file once, then exit"),),
    ),
    Verb(
        "status",
        "status",
        options.StatusOptions,
        "show the status of resources",
        (
            _arg("resource", nargs="?", metavar="KIND[/NAME]", help="show only these resources"),
            _arg(
                "--exit-code",
                action="store_true",
                help="exit 0: all Ready, 1: status unreadable or heartbeat too old, 2: a resource is not Ready",
            ),
            *_LISTING,
        ),
    ),
    Verb(
        "explain",
        "history",
        options.ExplainOptions,
        "show why a resource is in its state: commit and line, plan, calls, condition, next retry; offline",
        (_RESOURCE, *_LISTING),
    ),
    Verb(
        "history",
        "history",
        options.HistoryOptions,
        "show past changes from the audit log: what, when, why and by which commit",
        (
            _arg("resource", nargs="?", metavar="KIND/NAME[@CANVAS]", help="show only this resource"),
            _arg("--limit", type=count, default=50, help="maximum number of rows, newest first (default: 50)"),
            _arg("--verify", action="store_true", help="verify the whole audit log: hash chain, signatures and anchor"),
            _arg(
                "--anchor",
                metavar="ROW:HASH",
                help="with --verify: also compare with this audit_anchor line from the daemon's log",
            ),
            *_LISTING,
        ),
    ),
    Verb(
        "reconcile",
        "control",
        options.ReconcileOptions,
        "reconcile a resource now",
        (
            _RESOURCE,
            _arg("--wait", action="store_true", help="wait for the result; exit 0 only if the resource is Ready"),
            _arg(
                "--timeout",
                type=seconds,
                default=300.0,
                metavar="SECONDS",
                help="with --wait: give up after this time (default: 300)",
            ),
        ),
    ),
    Verb(
        "suspend",
        "control",
        options.SuspendOptions,
        "stop writes for a resource, or for everything that uses an Integration, until resumed",
        (
            _RESOURCE,
            _arg("--reason", required=True, help="the reason, shown in the status"),
            _arg("--until", metavar="TIME", help="end automatically at this RFC 3339 time or after this duration (2h)"),
        ),
    ),
    Verb("resume", "control", options.ResourceOptions, "end a suspension that `suspend` started", (_RESOURCE,)),
    Verb(
        "events",
        "events",
        options.EventsOptions,
        "list received events: what each led to, or why it was rejected",
        (
            _arg("id", nargs="?", metavar="EVENT", help="show this event with its payload; the id is ours or the sender's"),
            _arg("--source", metavar="NAME", help="show only events of EventSource/NAME or Stage/NAME"),
            _arg(
                "--state",
                choices=("pending", "processed", "rejected", "failed", "quarantined", "nothing"),
                help="show only events in this state; nothing: events without any effect",
            ),
            _arg("--all", action="store_true", help="show test deliveries of providers (pings) too"),
            _arg("--limit", type=count, default=50, help="maximum number of rows, newest first (default: 50)"),
            *_LISTING,
        ),
    ),
    Verb(
        "executions",
        "stages",
        options.ExecutionsOptions,
        "list queued items and what they wait for, and running and finished executions",
        (
            _arg("id", nargs="?", metavar="ID", help="show this one with inputs, digest, approvals, outputs and reports"),
            _arg("--stage", metavar="NAME", help="show only this stage"),
            _arg("--state", choices=("queued", "running", "finished"), help="show only items and executions in this state"),
            _arg("--limit", type=count, default=50, help="maximum number of rows, newest first (default: 50)"),
            *_LISTING,
        ),
    ),
    Verb(
        "logs",
        "stages",
        options.LogsOptions,
        "show the log of an execution, read from its provider",
        (
            _arg("id", metavar="ID", help="an execution, or an item (its newest execution)"),
            _arg("--follow", "-f", action="store_true", help="follow the log until it is complete"),
        ),
    ),
    Verb(
        "trigger",
        "events",
        options.TriggerOptions,
        "create an event of a source of type manual, schedule or webhook",
        (
            _arg("source", metavar="SOURCE", help="name of the EventSource"),
            _arg("--payload", metavar="JSON|@FILE|-", help="payload of the event: a JSON object, a file, or stdin (default: {})"),
            _arg("--type", metavar="TYPE", help="type of the event (default: manual)"),
            _arg("--key", metavar="KEY", help="idempotency key: repeated calls with the same key create one event"),
            *_waiting("wait until all items of the event have finished; exit 0 only if all passed"),
            _OUTPUT,
        ),
    ),
    Verb(
        "approve",
        "stages",
        options.ApproveOptions,
        "approve a waiting item, or the blocked changes of a plan by their digest",
        (
            _arg("id", metavar="ID|sha256:…", help="an item (see `executions`), or the digest of blocked changes (see `plan`)"),
            _arg(
                "--digest",
                metavar="sha256:…",
                help="approve the item only if it has this digest, that is, if it is the one you reviewed",
            ),
        ),
    ),
    Verb(
        "cancel",
        "stages",
        options.CancelOptions,
        "remove an item from its queue, or cancel an execution and its run at the provider",
        (_arg("id", metavar="ID", help="an item or an execution"),),
    ),
    Verb(
        "rerun",
        "stages",
        options.RerunOptions,
        "repeat a finished execution with the same inputs and commit; its conditions are checked again",
        (
            _arg("id", metavar="ID", help="an item or an execution"),
            _arg("--key", metavar="KEY", help="idempotency key: repeated calls with the same key cause one rerun"),
            *_waiting("wait for the result; exit 0 only if it passed"),
            _OUTPUT,
        ),
    ),
    Verb(
        "redeliver",
        "events",
        options.RedeliverOptions,
        "recover missed deliveries now",
        (
            _arg("source", nargs="?", metavar="SOURCE", help="only this EventSource (default: all)"),
            _arg("--since", metavar="DURATION", help="how far back to search, for example 2h (default: since the last recovery)"),
            _OUTPUT,
        ),
    ),
    Verb(
        "replay",
        "events",
        options.ReplayOptions,
        "route a stored event again, for example after its filter was fixed, or out of quarantine",
        (_arg("id", metavar="EVENT", help="id of the event; ours or the sender's"), _OUTPUT),
    ),
    Verb(
        "adopt",
        "control",
        options.AdoptOptions,
        "take over an existing object at the provider that reconciler does not manage",
        (_RESOURCE, _arg("--external-id", metavar="ID", help="the provider's id of the object, if several match"), _YES),
    ),
    Verb(
        "forget",
        "control",
        options.ForgetOptions,
        "remove objects of a resource from the state; deletes nothing at the provider",
        (
            _arg(
                "resource",
                metavar="KIND/NAME[@CANVAS]|ADDRESS",
                help="a resource that is no longer declared, or the address of one object",
            ),
            _YES,
        ),
    ),
    Verb(
        "recover",
        "repair",
        options.RecoverOptions,
        "restore a lost state: find our objects by marker, or by natural key after confirmation",
        (_YES, _OUTPUT),
    ),
    Verb(
        "export",
        "repair",
        options.ExportOptions,
        "write manifests for existing objects at a provider (URLs of foreign hooks become comments)",
        (
            _arg("integration", metavar="INTEGRATION", help="name of a declared Integration"),
            _arg(
                "--scope",
                action="append",
                default=[],
                metavar="SCOPE",
                help="repository, organization or workspace to read; repeatable",
            ),
            _arg("--out", metavar="FILE", help="write to this file instead of stdout"),
        ),
    ),
    Verb(
        "accept-drift",
        "repair",
        options.AcceptDriftOptions,
        "write the provider's current values into the YAML manifest, keeping its comments",
        (
            _RESOURCE,
            _arg("--dir", default=".", metavar="DIR", help="working copy of the repository (default: the current folder)"),
            _arg("--dry-run", action="store_true", help="show the change without writing it"),
        ),
    ),
    Verb(
        "signing-key",
        "keys",
        options.SigningKeyOptions,
        "print the signing key of a source, of the webhook of an Integration's App, or of a Notification's webhook",
        (_RESOURCE, _arg("--previous", action="store_true", help="print the key before the last rotation")),
    ),
    Verb(
        "rotate",
        "keys",
        options.RotateOptions,
        "rotate the signing key of a source: increases keyRotation in the YAML manifest; no event is lost",
        (
            _arg("resource", nargs="?", metavar="KIND/NAME[@CANVAS]", help="for example EventSource/payments"),
            _arg("--all", action="store_true", help="all sources with a signing key, for example after a leak"),
            _arg("--dir", default=".", metavar="DIR", help="working copy of the repository (default: the current folder)"),
        ),
    ),
    Verb(
        "oidc",
        "oidc",
        options.OidcOptions,
        "use this installation as an OIDC issuer: publish its documents, print trust policies, rotate keys, show claims",
        (
            _arg("action", choices=("export", "trust", "rotate", "token"), help="what to do"),
            _arg(
                "arguments",
                nargs="*",
                metavar="ARGUMENT",
                help="export: DIR, the folder for the two documents; trust: the relying party (aws, azure, google, vault, buddy) and "
                "KIND/NAME[@CANVAS]; token: KIND/NAME[@CANVAS]",
            ),
            _arg("--dir", default=".", metavar="DIR", help="trust, token: folder of the manifests (default: the current folder)"),
            _arg("--audience", metavar="AUDIENCE", help="trust, token: use this audience (default: the manifest's)"),
            _arg("--show", action="store_true", help="token: print the signed token too, and record it in the audit log"),
            _arg("--emergency", action="store_true", help="rotate: revoke all keys, and sign with the new one at once"),
            _YES,
            _OUTPUT,
        ),
    ),
    Verb(
        "app",
        "app",
        options.AppOptions,
        "register an App in the browser; show what the manifests need of an App and what it has",
        (
            _arg("action", choices=("create", "status"), help="what to do"),
            _arg(
                "integration",
                nargs="?",
                metavar="INTEGRATION",
                help="the Integration; status: default all that use an App; create: default the one of the account, else the name of the provider",
            ),
            _arg("--org", metavar="ORG", help="create: the App belongs to this organization"),
            _arg("--user", metavar="LOGIN", help="create: the App belongs to this user account"),
            _arg("--url", metavar="URL", help="create: the web site of an Enterprise server (default: the provider's own)"),
            _arg("--api-url", metavar="URL", help="create: the root of the API (default: that of the web site)"),
            _arg("--name", metavar="NAME", help="create: name of the App (default: reconciler-OWNER)"),
            _arg(
                "--permission",
                action="append",
                default=[],
                metavar="NAME=LEVEL",
                help="create: request this permission too (repeatable)",
            ),
            _arg(
                "--event", action="append", default=[], metavar="EVENT", help="create: subscribe to this event too (repeatable)"
            ),
            _arg("--dir", default=".", metavar="DIR", help="create: folder of the manifests (default: the current folder)"),
            _arg("--out", metavar="DIR", help="create: folder for key and secret (default: secrets.folder)"),
            _arg("--no-browser", action="store_true", help="create: print the URL to open, and open no browser"),
            _arg("--port", type=port, default=0, help="create: port of the page on 127.0.0.1 (default: a free one)"),
            _arg("--timeout", type=seconds, default=900.0, metavar="SECONDS", help="create: how long to wait (default: 900)"),
            _arg("--exit-code", action="store_true", help="status: exit 2 if something is missing"),
            *_LISTING,
        ),
    ),
    Verb(
        "notify",
        "notify",
        options.NotifyOptions,
        "send a test message through a Notification, to check its sink and credential",
        (
            _arg("action", choices=("test",), help="what to do"),
            _arg("name", metavar="NAME[@CANVAS]", help="the Notification"),
        ),
    ),
    Verb(
        "orphans",
        "repair",
        options.OrphansOptions,
        "list orphaned objects: they carry our marker, but no manifest declares them",
        (_arg("--delete", action="store_true", help="delete them (asks for confirmation unless --yes)"), _YES, *_LISTING),
    ),
    Verb(
        "ping",
        "repair",
        options.ResourceOptions,
        "request a test delivery from the provider, to check that events of a source arrive",
        (_RESOURCE,),
    ),
    Verb(
        "review",
        "reviews",
        options.ReviewOptions,
        "review a pull request now; exits with 5 if its manifests are invalid, with 6 if changes are blocked",
        (_arg("number", type=count, metavar="PR", help="number of the pull request"), _OUTPUT),
    ),
    Verb(
        "credentials",
        "credentials",
        options.CredentialsOptions,
        "show each credential (valid, who, granted, missing, ends), and what stops when one ends",
        (
            _arg("--until", default="30d", metavar="DURATION", help="how far the calendar looks ahead (default: 30d)"),
            *_LISTING,
        ),
    ),
    Verb("doctor", "doctor", options.OutputOptions, "check this installation and suggest fixes", (_OUTPUT,)),
    Verb(
        "schema",
        "misc",
        options.SchemaOptions,
        "print a JSON Schema for editors and CI",
        (
            _arg(
                "kind",
                nargs="?",
                metavar="KIND",
                help="print the schema of this kind, or of `plan -o json` with `plan` (default: all kinds)",
            ),
            _arg("--list", action="store_true", help="list the kinds"),
            _arg("--editor", action="store_true", help="print settings for editors"),
        ),
    ),
    Verb(
        "sandbox",
        "misc",
        options.SandboxOptions,
        "run simulated providers on loopback, for trials and CI",
        (
            _arg("provider", nargs="*", metavar="PROVIDER", help="a simulated provider (default: all)"),
            _arg("--port", type=port, default=0, help="first port (default: free ports; they are printed)"),
        ),
    ),
    Verb(
        "healthcheck",
        "misc",
        options.HealthcheckOptions,
        "exit 0 if the daemon's heartbeat is recent (for HEALTHCHECK)",
        (_arg("--max-age", type=seconds, default=120.0, metavar="SECONDS", help="maximum age of the heartbeat (default: 120)"),),
    ),
    Verb(
        "backup",
        "backup",
        options.BackupOptions,
        "copy the SQLite state into a file, while the daemon runs",
        (
            _arg("file", metavar="FILE", help="the new file; FILE.sha256 is written next to it"),
            _arg("--with-key", action="store_true", help="copy the master key to FILE.key; protect it like the key itself"),
            _arg("--force", action="store_true", help="replace FILE if it exists"),
            _OUTPUT,
        ),
        description="Copy the SQLite state into a file, complete and consistent, while the daemon runs. The master key is not part of it. "
        "For PostgreSQL use pg_dump.",
    ),
    Verb(
        "restore",
        "backup",
        options.RestoreOptions,
        "put a backup in the place of a lost state; never over an existing one",
        (
            _arg(
                "file", nargs="?", metavar="FILE", help="the backup; without it, the database was restored already (pg_restore)"
            ),
            _arg(
                "--with-key",
                action="store_true",
                help="also restore the master key from FILE.key; refused if this host has a key",
            ),
            _arg(
                "--resume-work",
                action="store_true",
                help="continue what was open in the backup; only if no daemon ran since the backup was made",
            ),
            _YES,
            _OUTPUT,
        ),
        description="Put a backup in the place of a lost state. It is checked first: digest, structure, key, owner and audit log. What was "
        "queued, running or not yet routed in the backup is ended, since it may have run since then; `reconciler rerun` and "
        "`reconciler replay` repeat it.",
    ),
    Verb("version", "misc", options.OutputOptions, "print the version", (_OUTPUT,)),
    Verb(
        "completion",
        "misc",
        options.CompletionOptions,
        "print a shell completion script",
        (_arg("shell", choices=("bash", "zsh", "fish"), help="the shell"),),
        "Print a shell completion script. It completes verbs, options, and the names of resources, stages and sources from the "
        "status file.",
    ),
)
