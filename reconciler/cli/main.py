"""Entry point: parses arguments, calls a verb, and turns every error into one clear message and the right exit code.

Imports are lazy on purpose: ``--help`` and ``version`` cost hardly more than Python itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from reconciler.cli import sink
from reconciler.cli.completion import HIDDEN_VERB
from reconciler.cli.options import VerbOptions
from reconciler.cli.parser import build_parser, build_parsers, nearest
from reconciler.cli.verb import Verb
from reconciler.cli.verbs import GLOBALS, SHOWING, VERBS
from reconciler.model.exit_codes import EXIT_CONFIG, EXIT_ERROR, EXIT_OK, EXIT_SIGINT, EXIT_USAGE


class _Function(Protocol):
    """The function of a verb: it gets the options of the verb's own class, and returns the exit code."""

    def __call__(self, options: VerbOptions, /) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. A traceback never reaches a user unless RECONCILER_DEBUG is set."""
    sink.prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [HIDDEN_VERB]:
        return _complete(arguments[1:])
    names = {verb.name: verb for verb in VERBS}
    word = _first_word(arguments)
    verb = names.get(word)
    parser, parsers = build_parsers(word)
    options = verb.options() if verb is not None else VerbOptions()
    try:
        if word and verb is None:
            parser.refuse(f"no verb {word!r}", guess=nearest(word, names))
        _, unknown = parser.parse_known_args(arguments, namespace=options)
        if unknown:
            parsers.get(word, parser).refuse_arguments(unknown)
    except SystemExit as end:
        return _finished(int(end.code or 0) if not isinstance(end.code, str) else EXIT_USAGE)
    if verb is None:
        parser.print_help(sys.stdout)
        return _finished(EXIT_OK)
    return _finished(_guarded(verb, options), acts=verb.name not in SHOWING)


def _complete(arguments: Sequence[str]) -> int:
    """Print what the shell may complete; it is never an error."""
    from reconciler.cli.complete import main as candidates

    for word in candidates(arguments):
        sink.out(word)
    sink.finish()
    return EXIT_OK


def _first_word(arguments: Sequence[str]) -> str:
    """Return the first argument that is neither an option nor its value: the verb; empty without one."""
    before = ""
    for word in arguments:
        if not word.startswith("-") and not _takes_value(before):
            return word
        before = word
    return ""


def _takes_value(word: str) -> bool:
    """Whether ``word`` is an option that every verb has, maybe abbreviated: the next word is its value."""
    return len(word) > 2 and any(flag.startswith(word) for flags, _ in GLOBALS for flag in flags)


def _finished(code: int, *, acts: bool = False) -> int:
    """Write buffered output and return the exit code.

    A reader that leaves early does not change the code. A full disk under stdout is an error of a verb that only prints; a verb
    that acts has done its work.
    """
    error = sink.finish()
    if error is None:
        return code
    from reconciler.cli.output import say

    say(f"reconciler: RC3075: stdout cannot be written: {error.strerror or error}")
    say("  The work itself is done." if acts else "  The output is incomplete: write it to another place.")
    return code if acts or code else EXIT_ERROR


def _guarded(verb: Verb, options: VerbOptions) -> int:
    try:
        return _function(verb)(options)
    except KeyboardInterrupt:
        return EXIT_SIGINT
    except Exception as error:  # the one place that turns an error into a message  # noqa: BLE001
        return _report(error, verb)


def _function(verb: Verb) -> _Function:
    module = importlib.import_module(f"reconciler.cli.{verb.module}")
    return cast("_Function", getattr(module, verb.function or verb.name.replace("-", "_")))


def _report(error: Exception, verb: Verb) -> int:
    from reconciler.cli.errors import show_error, typed
    from reconciler.model.codes import LASTING
    from reconciler.model.errors import ReconcilerError

    error = typed(error)
    if os.environ.get("RECONCILER_DEBUG") and not isinstance(error, ReconcilerError):
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            sink.err(line)
    show_error(error)
    if not isinstance(error, ReconcilerError):
        return EXIT_ERROR
    lasting = verb.name == "run" and error.exit_code == EXIT_ERROR and error.code in LASTING
    return EXIT_CONFIG if lasting else error.exit_code


__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
