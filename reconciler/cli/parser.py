"""The command-line parser, built from the table of verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from reconciler.cli import sink
from reconciler.cli.verbs import GLOBALS, VERBS
from reconciler.model.exit_codes import EXIT_USAGE

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_DESCRIPTION = """\
GitOps for CI/CD integrations: keeps webhooks, credentials and pipelines
as a Git repository declares them."""
_EPILOG = """\
Exit codes: 0 success, 1 error, 5 invalid manifests, 6 partly applied,
64 wrong usage, 78 (run) an error that a restart does not fix,
130/143 signals.
plan and drift with --detailed-exitcode: 0 nothing to do, 2 changes pending,
3 only drift, 4 changes blocked.
Documentation: docs/ in the repository; every error code has a page under
docs/errors."""


class _HelpFormatter(argparse.HelpFormatter):
    """Prints a usage of one line, and the value of an option once: ``-o, --output {text,json}``."""

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None,
    ) -> str:
        """Return ``usage: reconciler VERB [options] POSITIONAL``, with required options."""
        self._prog += " [options]"
        shown = [action for action in actions if action.required or not action.option_strings]
        return super()._format_usage(usage, shown, groups, prefix)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class _RawHelpFormatter(_HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions."""


class Parser(argparse.ArgumentParser):
    """argparse, but wrong usage exits 64: its own 2 would read as "changes pending" in CI."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print usage and help through the sink, as all output."""
        write = sink.out if file is sys.stdout else sink.err
        for line in message.removesuffix("\n").split("\n") if message else ():
            write(line)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with 64."""
        self.refuse(message)

    def refuse(self, message: str, *, guess: str = "") -> NoReturn:
        """Print the usage, the error and the next step, and exit with 64."""
        self.print_usage(sys.stderr)
        hint = f"Did you mean {guess}? " if guess else ""
        self.exit(EXIT_USAGE, f"{self.prog}: RC3001: {message}\n  {hint}Try '{self.prog} --help'.\n")

    def refuse_arguments(self, arguments: Sequence[str]) -> NoReturn:
        """Report arguments that no option or position takes."""
        options = [flag for action in self._actions for flag in action.option_strings]
        guess = nearest(arguments[0].partition("=")[0], options) if arguments[0].startswith("-") else ""
        self.refuse(f"unrecognized arguments: {' '.join(arguments)}", guess=guess)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like ``word``, or an empty text. Case does not count."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    return next((by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=1)), "")


def build_parsers(only: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and the parser of each verb.

    With ``only``, the other verbs have a name and a help text but no options, which keeps start-up short.
    """
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every verb")
    for flags, options in GLOBALS:
        group.add_argument(*flags, **options)
    parser = Parser(
        prog="reconciler", parents=[common], formatter_class=_RawHelpFormatter, description=_DESCRIPTION, epilog=_EPILOG
    )
    commands = parser.add_subparsers(prog="reconciler", dest="verb", metavar="VERB", title="verbs", parser_class=Parser)
    verbs: dict[str, Parser] = {}
    for verb in VERBS:
        if only is not None and verb.name != only:
            verbs[verb.name] = commands.add_parser(verb.name, help=verb.help, add_help=False)
            continue
        description = verb.description or f"{verb.help[0].upper()}{verb.help[1:]}."
        verbs[verb.name] = sub = commands.add_parser(
            verb.name,
            parents=[common],
            help=verb.help,
            description=description,
            formatter_class=_RawHelpFormatter if verb.description else _HelpFormatter,
        )
        for flags, options in verb.arguments:
            sub.add_argument(*flags, **options)
    return parser, verbs


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of the whole command line."""
    return build_parsers(only)[0]
