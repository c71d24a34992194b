"""The command-line parser, built from the table of verbs."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from reconciler import __version__
from reconciler.cli import sink
from reconciler.cli.guide import EXAMPLES, GROUPS
from reconciler.cli.verb import Verb
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


_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_WIDTH = 78
"""Most columns of the texts that are wrapped here; argparse wraps the rest to the terminal."""
_NARROWEST = 30


def _width() -> int:
    """Return the columns of the texts that are wrapped here."""
    return max(min(_WIDTH, shutil.get_terminal_size((80, 24)).columns), _NARROWEST)


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
    """Keeps the line breaks of descriptions, and leaves out the list of verbs: `_guide` has it, in groups."""

    def _format_action(self, action: argparse.Action) -> str:
        return "" if action.dest == "verb" else super()._format_action(action)


class Parser(argparse.ArgumentParser):
    """argparse, but wrong usage exits 64: its own 2 would read as "changes pending" in CI."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print usage and help through the sink, as all output."""
        write = sink.out if file is sys.stdout else sink.err
        for line in message.removesuffix("\n").split("\n") if message else ():
            write(line)

    def error(self, message: str) -> NoReturn:
        """Print the usage, the error and the nearest choice, and exit with 64."""
        choice = _CHOICE.search(message)
        self.refuse(message, guess=nearest(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice is not None else "")

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


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return the hint that names the known word that is most like ``word``; ``otherwise`` if none is.

    For ``KIND/NAME`` only the names of this kind are compared.
    """
    kind, slash, name = word[:200].rpartition("/")
    begin = f"{kind}{slash}".lower()
    names = {other[len(begin) :]: other for other in known if other.lower().startswith(begin)}
    guess = names.get(nearest(name, names), "")
    return f"Did you mean {guess}?" if guess else otherwise


def grouped() -> Iterator[tuple[str, list[Verb]]]:
    """Yield the groups of verbs: title, and verbs in order."""
    by_name = {verb.name: verb for verb in VERBS}
    for title, names in GROUPS.items():
        yield title, [by_name[name] for name in names if name in by_name]


def _fitting(text: str) -> str:
    """Return ``text`` with lines that fit into the terminal."""
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, _width()) or [""])


def _guide() -> str:
    """Return the list of verbs in their groups."""
    column, width = max(len(verb.name) for verb in VERBS) + 4, _width()
    lines: list[str] = []
    for title, verbs in grouped():
        lines += ["", f"{title}:"] if lines else [f"{title}:"]
        for verb in verbs:
            first = f"  {verb.name:{column - 2}}"
            lines += textwrap.wrap(verb.help, width, initial_indent=first, subsequent_indent=" " * column, break_on_hyphens=False)
    return "\n".join(lines)


def _example(verb: Verb) -> str:
    """Return the examples of a verb, and where to read more."""
    lines = "\n".join(f"  {line}" for line in EXAMPLES[verb.name])
    return f"example{'s' if len(EXAMPLES[verb.name]) > 1 else ''}:\n{lines}"


def build_parsers(only: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and the parser of each verb.

    With ``only``, the other verbs have a name and a help text but no options, which keeps start-up short.
    """
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every verb")
    for flags, options in GLOBALS:
        group.add_argument(*flags, **options)
    parser = Parser(
        prog="reconciler",
        parents=[common],
        formatter_class=_RawHelpFormatter,
        description=f"{_fitting(_DESCRIPTION)}\n\n{_guide()}",
        epilog=_fitting(_EPILOG),
    )
    parser.add_argument("--version", action="version", version=f"reconciler {__version__}", help="print the version")
    commands = parser.add_subparsers(prog="reconciler", dest="verb", metavar="VERB", parser_class=Parser)
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
            description=textwrap.fill(description, _width(), break_on_hyphens=False),
            epilog=_example(verb),
            formatter_class=_RawHelpFormatter,
        )
        for flags, options in verb.arguments:
            sub.add_argument(*flags, **options)
    return parser, verbs


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of the whole command line."""
    return build_parsers(only)[0]
