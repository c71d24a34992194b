"""The table of verbs: names, help and options. No imports of the program here, so that ``--help`` is quick.

docs/cli.md is made from this table, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Argument = tuple[tuple[str, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: ``module`` under ``reconciler.cli`` holds ``function`` (default: the verb's name)."""

    name: str
    module: str
    help: str
    arguments: tuple[Argument, ...] = ()
    description: str = ""
    function: str = ""

    @property
    def acts(self) -> bool:
        """Whether its work is something else than what it prints."""
        return self.name not in _SHOWING


_SHOWING = frozenset(
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
        "key",
        "doctor",
        "schema",
        "healthcheck",
        "version",
        "completion",
    }
)


def _arg(*flags: str, **options: Any) -> Argument:
    return flags, options


GLOBALS: tuple[Argument, ...] = (
    _arg("--config", metavar="FILE", help="configuration file (default: ./reconciler.yaml)"),
    _arg("--repo", metavar="URL_OR_DIR", help="source URL or folder, where there is no configuration file"),
    _arg(
        "--log-level", choices=("debug", "info", "warning", "error"), help="log level (default: log.level of the configuration)"
    ),
)

_OUTPUT = _arg("-o", "--output", choices=("text", "json"), default="text", help="output format (default: text)")
_YES = _arg("--yes", "-y", action="store_true", help="do not ask")
_RESOURCE = _arg("resource", metavar="KIND/NAME[@CANVAS]", help="for example EventSource/payments")
_DETAILED = _arg(
    "--detailed-exitcode",
    action="store_true",
    help="exit 0 nothing to do, 1 something could not be read, 2 changes pending, 3 only drift, 4 blocked",
)


def _waiting(help_text: str) -> tuple[Argument, ...]:
    timeout = _arg("--timeout", type=float, default=3600.0, metavar="SECONDS", help="with --wait: how long (default: 3600)")
    return _arg("--wait", action="store_true", help=help_text), timeout


VERBS: tuple[Verb, ...] = (
    Verb(
        "demo",
        "demo",
        "run the main job end to end on this machine, no account needed",
        (
            _arg("--keep", action="store_true", help="leave the sandbox and the daemon running until Ctrl-C"),
            _arg("--dir", metavar="DIR", help="work in this folder instead of a temporary one"),
        ),
    ),
    Verb(
        "init",
        "init",
        "write a starter repository: manifests, CI workflow, pre-commit hook, editor schema lines",
        (
            _arg("dir", nargs="?", default=".", metavar="DIR", help="where to (default: this folder)"),
            _arg("--force", action="store_true", help="overwrite files that exist"),
        ),
    ),
    Verb(
        "validate",
        "validate",
        "check manifests offline: schema, references, expressions, policy",
        (
            _arg("paths", nargs="*", metavar="PATH", help="files or folders (default: this folder)"),
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
        "show what apply would do, in the classes commit, drift and unverifiable; writes nothing at a provider",
        (
            _arg(
                "path",
                nargs="?",
                metavar="PATH",
                help="a folder as it lies on the disk (default: the configured source, by commit)",
            ),
            _arg("--base", metavar="REF", help="desired against desired at REF: needs no credentials and no state"),
            _arg(
                "--snapshot", metavar="FILE", help="plan against a redacted snapshot that the daemon wrote, without credentials"
            ),
            _DETAILED,
            _arg(
                "-o",
                "--output",
                choices=("text", "json", "markdown", "github", "sarif"),
                default="text",
                help="output format (default: text)",
            ),
        ),
    ),
    Verb(
        "drift",
        "plan",
        "show what differs from what was applied; read only",
        (
            _arg(
                "path",
                nargs="?",
                metavar="PATH",
                help="a folder as it lies on the disk (default: the configured source, by commit)",
            ),
            _DETAILED,
            _arg(
                "-o",
                "--output",
                choices=("text", "json", "markdown", "github", "sarif"),
                default="text",
                help="output format (default: text)",
            ),
        ),
    ),
    Verb(
        "apply",
        "apply",
        "plan and execute; asks unless --yes",
        (
            _arg(
                "path",
                nargs="?",
                metavar="PATH",
                help="a folder as it lies on the disk (default: the configured source, by commit)",
            ),
            _arg("--plan", metavar="sha256:…", help="apply only if what would be done has this digest; else print what moved"),
            _YES,
            _arg("--no-wait", action="store_true", help="do not wait for the settle time of writes with unknown outcome"),
            _OUTPUT,
        ),
    ),
    Verb(
        "run",
        "run",
        "the daemon; --once makes one full pass and exits",
        (_arg("--once", action="store_true", help="one full pass: sync, plan, apply, status file"),),
    ),
    Verb(
        "status",
        "status",
        "what is, from the running daemon's status file",
        (
            _arg("resource", nargs="?", metavar="KIND[/NAME]", help="only these"),
            _arg("--watch", "-w", action="store_true", help="show again whenever it changes, until Ctrl-C"),
            _arg(
                "--exit-code",
                action="store_true",
                help="exit 0 all Ready, 1 unreadable or heartbeat too old, 2 something is not Ready",
            ),
            _OUTPUT,
        ),
    ),
    Verb(
        "explain",
        "status",
        "the causal chain of a resource: commit and line, plan, calls, condition, next try; offline",
        (_RESOURCE, _OUTPUT),
    ),
    Verb(
        "history",
        "status",
        "what was changed, when, why and by which commit, from the audit log",
        (
            _arg("resource", nargs="?", metavar="KIND/NAME[@CANVAS]", help="only this one"),
            _arg("--limit", type=int, default=50, help="rows at most, newest first (default: 50)"),
            _arg("--verify", action="store_true", help="check the whole audit log: its chain, its signatures, and its anchor"),
            _arg("--anchor", metavar="ROW:HASH", help="with --verify: also against this line of the daemon's log (audit_anchor)"),
            _OUTPUT,
        ),
    ),
    Verb(
        "reconcile",
        "control",
        "look again at a resource now",
        (
            _RESOURCE,
            _arg("--wait", action="store_true", help="wait until it was reconciled, and exit 0 only if it is Ready"),
            _arg("--timeout", type=float, default=300.0, metavar="SECONDS", help="with --wait: how long (default: 300)"),
        ),
    ),
    Verb(
        "suspend",
        "control",
        "no writes for a resource (or all that uses an Integration) until resumed",
        (
            _RESOURCE,
            _arg("--reason", required=True, help="why; shown in the status"),
            _arg("--until", metavar="TIME", help="RFC 3339 time or a duration (2h) after which it ends by itself"),
        ),
    ),
    Verb("resume", "control", "end a suspension made by command", (_RESOURCE,)),
    Verb(
        "events",
        "events",
        "what came in, and who did not get it and why",
        (
            _arg("id", nargs="?", metavar="EVENT", help="only this one, with its payload: its id, or the sender's"),
            _arg("--source", metavar="NAME", help="only those of this source: EventSource/NAME or Stage/NAME"),
            _arg(
                "--state",
                choices=("pending", "processed", "rejected", "failed", "quarantined", "nothing"),
                help="only those in this state; nothing: that led to nothing",
            ),
            _arg("--limit", type=int, default=50, help="rows at most, newest first (default: 50)"),
            _OUTPUT,
        ),
    ),
    Verb(
        "executions",
        "stages",
        "what waits, and for what; what runs, and what ran",
        (
            _arg("id", nargs="?", metavar="ID", help="only this one, with inputs, digest, approvals, outputs and reports"),
            _arg("--stage", metavar="NAME", help="only those of this stage"),
            _arg("--state", choices=("queued", "running", "finished"), help="only those in this state"),
            _arg("--limit", type=int, default=50, help="rows at most, newest first (default: 50)"),
            _OUTPUT,
        ),
    ),
    Verb(
        "logs",
        "stages",
        "the log of an execution's run, from its provider",
        (
            _arg("id", metavar="ID", help="an execution, or an item: then its newest execution"),
            _arg("--follow", "-f", action="store_true", help="go on until the log is complete"),
        ),
    ),
    Verb(
        "trigger",
        "events",
        "make an event of a source of type manual, schedule or webhook",
        (
            _arg("source", metavar="SOURCE", help="name of the EventSource"),
            _arg("--payload", metavar="JSON|@FILE|-", help="the event's payload: a JSON object, a file, or stdin (default: {})"),
            _arg("--type", metavar="TYPE", help="the event's type (default: manual)"),
            _arg("--key", metavar="KEY", help="equal keys make one event, however often they are sent"),
            *_waiting("wait until all that it is queued as has ended, and exit 0 only if all of it passed"),
            _OUTPUT,
        ),
    ),
    Verb(
        "approve",
        "stages",
        "approve an item that waits, or a blocked plan by the digest that status and plan show",
        (
            _arg("id", metavar="ID|sha256:…", help="an item (see executions), or the digest of a blocked set"),
            _arg("--digest", metavar="sha256:…", help="the item's digest: approve only if it is what was reviewed"),
        ),
    ),
    Verb(
        "cancel",
        "stages",
        "take an item out of its queue, or end an execution, at its provider too",
        (_arg("id", metavar="ID", help="an item or an execution"),),
    ),
    Verb(
        "rerun",
        "stages",
        "repeat what has ended, as it was: same inputs, same commit, its conditions asked again; one repetition at a time",
        (
            _arg("id", metavar="ID", help="an item or an execution"),
            _arg("--key", metavar="KEY", help="equal keys make one repetition, however often they are sent"),
            *_waiting("wait until it has ended, and exit 0 only if it passed"),
            _OUTPUT,
        ),
    ),
    Verb(
        "redeliver",
        "events",
        "look for deliveries that were missed, now",
        (
            _arg("source", nargs="?", metavar="SOURCE", help="only this EventSource (default: all)"),
            _arg("--since", metavar="DURATION", help="how far back, for example 2h (default: since the last look)"),
            _OUTPUT,
        ),
    ),
    Verb(
        "replay",
        "events",
        "hand a stored event on anew, after its filter was repaired, or out of quarantine",
        (_arg("id", metavar="EVENT", help="an event: its id, or the sender's"), _OUTPUT),
    ),
    Verb(
        "adopt",
        "control",
        "take over an object that exists at the provider and is not ours",
        (_RESOURCE, _arg("--external-id", metavar="ID", help="the provider's id, where more than one would match"), _YES),
    ),
    Verb(
        "forget",
        "control",
        "drop a resource's objects, or one of them, from the state; nothing is deleted at the provider",
        (
            _arg("resource", metavar="KIND/NAME[@CANVAS]|ADDRESS", help="a resource that is gone, or the address of one object"),
            _YES,
        ),
    ),
    Verb(
        "rebuild",
        "repair",
        "find everything again after a lost state: by marker, and natural keys after showing them",
        (_YES, _OUTPUT),
    ),
    Verb(
        "export",
        "repair",
        "write manifests for what exists at a provider (foreign hooks: their URL becomes a comment)",
        (
            _arg("integration", metavar="INTEGRATION", help="name of a declared Integration"),
            _arg(
                "--scope",
                action="append",
                default=[],
                metavar="SCOPE",
                help="repository, organization or workspace to read; may be given more than once",
            ),
            _arg("--out", metavar="FILE", help="write here instead of to stdout"),
        ),
    ),
    Verb(
        "accept-drift",
        "repair",
        "write what the provider has now into the manifest's YAML, keeping its comments",
        (
            _RESOURCE,
            _arg("--dir", default=".", metavar="DIR", help="working copy of the repository (default: this folder)"),
            _arg("--dry-run", action="store_true", help="show the change, write nothing"),
        ),
    ),
    Verb(
        "key",
        "keys",
        "show a source's signing key to an operator",
        (_RESOURCE, _arg("--previous", action="store_true", help="the one before the last rotation")),
    ),
    Verb(
        "rotate",
        "keys",
        "raise keyRotation in the manifest's YAML: the key changes without a lost event",
        (
            _arg("resource", nargs="?", metavar="KIND/NAME[@CANVAS]", help="for example EventSource/payments"),
            _arg("--all", action="store_true", help="every source that somebody sends to: after a key may have leaked"),
            _arg("--dir", default=".", metavar="DIR", help="working copy of the repository (default: this folder)"),
        ),
    ),
    Verb(
        "sweep",
        "repair",
        "list objects at the providers that carry our mark and no manifest declares",
        (_arg("--delete", action="store_true", help="delete them (asks unless --yes)"), _YES, _OUTPUT),
    ),
    Verb("ping", "repair", "ask the provider for a test delivery of a source, as proof that events arrive", (_RESOURCE,)),
    Verb("doctor", "doctor", "what is wrong with this installation and how to mend it", (_OUTPUT,)),
    Verb(
        "schema",
        "misc",
        "print a JSON Schema for editors and CI",
        (
            _arg("kind", nargs="?", metavar="KIND", help="one kind's schema (default: that of a whole document)"),
            _arg("--list", action="store_true", help="list the kinds"),
            _arg("--editor", action="store_true", help="print the settings an editor needs"),
        ),
    ),
    Verb(
        "sandbox",
        "misc",
        "run the simulated providers on loopback, for trials and for CI",
        (
            _arg("provider", nargs="*", metavar="PROVIDER", help="a simulated provider (default: all)"),
            _arg("--port", type=int, default=0, help="first port (default: free ports, printed)"),
        ),
    ),
    Verb(
        "healthcheck",
        "misc",
        "exit 0 if the daemon's heartbeat is fresh (for HEALTHCHECK)",
        (_arg("--max-age", type=float, default=120.0, metavar="SECONDS", help="how old the heartbeat may be (default: 120)"),),
    ),
    Verb("version", "misc", "print the version", (_OUTPUT,)),
    Verb(
        "completion", "misc", "print a completion script", (_arg("shell", choices=("bash", "zsh", "fish"), help="which shell"),)
    ),
)
