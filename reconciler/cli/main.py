"""Entry point: parses arguments, calls a verb, and turns every error into one clear message and the right exit code.

Imports are lazy on purpose: ``--help`` and ``version`` cost hardly more than Python itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from reconciler.cli import sink
from reconciler.cli.verb import Verb
from reconciler.cli.verbs import GLOBALS, SHOWING, VERBS
from reconciler.model.exit_codes import EXIT_CONFIG, EXIT_ERROR, EXIT_OK, EXIT_SIGINT, EXIT_USAGE


class Parser(argparse.ArgumentParser):
    """argparse, but wrong usage exits 64: its own 2 would read as "changes pending" in CI."""

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print usage and help the way everything is printed."""
        write = sink.out if file is sys.stdout else sink.err
        for line in message.removesuffix("\n").split("\n") if message else ():
            write(line)

    def error(self, message: str) -> NoReturn:
        """Print the usage and leave with 64."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: RC3001: {message}\n  Try '{self.prog} --help'.\n")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; with ``only``, just that verb's options are built (the rest are names), which keeps start-up short."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for flags, options in GLOBALS:
        common.add_argument(*flags, **options)
    parser = Parser(
        prog="reconciler",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="GitOps for CI/CD integrations: keeps webhooks, credentials and pipelines\nas a Git repository declares them.",
        epilog="Exit codes: 0 success, 1 error, 5 invalid manifests, 6 partly applied,\n"
        "64 wrong usage, 78 (run) an error that a restart does not fix, 130/143 signals.\n"
        "plan and drift with --detailed-exitcode: 0 nothing to do,\n"
        "1 not readable, 2 changes pending, 3 only drift, 4 changes blocked.\n"
        "Documentation: docs/ in the repository; docs/errors has a page for every error.",
    )
    commands = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=Parser)
    for verb in VERBS:
        sub = commands.add_parser(
            verb.name,
            parents=[common],
            help=verb.help,
            description=verb.description or verb.help,
            formatter_class=argparse.RawDescriptionHelpFormatter if verb.description else argparse.HelpFormatter,
        )
        if only is None or verb.name == only:
            for flags, options in verb.arguments:
                sub.add_argument(*flags, **options)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. A traceback never reaches a user unless RECONCILER_DEBUG is set."""
    sink.prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = {verb.name: verb for verb in VERBS}
    chosen = next((word for word in arguments if word in names), None)
    parser = build_parser(chosen or "")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:
        return _left(int(leaving.code or 0) if not isinstance(leaving.code, str) else EXIT_USAGE)
    if not options.verb:
        parser.print_help(sys.stdout)
        return _left(EXIT_OK)
    return _left(_guarded(names[options.verb], options), acts=options.verb not in SHOWING)


def _left(code: int, *, acts: bool = False) -> int:
    """Return the exit code once all is printed.

    That of the work stays: a reader that leaves early decides nothing. A disk that is full under what was asked for is an
    error of a verb that only shows; one that acts has done its work.
    """
    error = sink.finish()
    if error is None:
        return code
    from reconciler.cli.output import say

    say(f"reconciler: RC3075: stdout does not take what is written: {error.strerror or error}")
    say("  The work itself is done." if acts else "  What was printed is not complete: write it to another place.")
    return code if acts or code else EXIT_ERROR


def _guarded(verb: Verb, options: argparse.Namespace) -> int:
    try:
        return _function(verb)(options)
    except KeyboardInterrupt:
        return EXIT_SIGINT
    except Exception as error:  # the one place that turns an error into a message  # noqa: BLE001
        return _report(error, verb)


def _function(verb: Verb) -> Callable[[argparse.Namespace], int]:
    module = importlib.import_module(f"reconciler.cli.{verb.module}")
    function: Callable[[argparse.Namespace], int] = getattr(module, verb.function or verb.name.replace("-", "_"))
    return function


def _report(error: Exception, verb: Verb) -> int:
    from reconciler.cli.output import show_error
    from reconciler.model.codes import LASTING
    from reconciler.model.errors import ReconcilerError

    error = _typed(error)
    if os.environ.get("RECONCILER_DEBUG") and not isinstance(error, ReconcilerError):
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            sink.err(line)
    show_error(error)
    if not isinstance(error, ReconcilerError):
        return EXIT_ERROR
    lasting = verb.name == "run" and error.exit_code == EXIT_ERROR and error.code in LASTING
    return EXIT_CONFIG if lasting else error.exit_code


def _typed(error: Exception) -> Exception:
    """Return what a user can act on where ``error`` is only how it came here: a loop that ended, a call of the system or database."""
    from reconciler.model.errors import ReconcilerError, storage_error

    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, ReconcilerError | OSError):
        error = cause
    if isinstance(error, OSError) and error.filename is not None:
        return storage_error(error, error.filename2 or error.filename)
    if "sqlite3" in sys.modules and type(error).__module__.partition(".")[0] in {"sqlite3", "sqlalchemy"}:
        from reconciler.state.database import database_error

        return database_error(error) or error
    return error


if __name__ == "__main__":
    sys.exit(main())
