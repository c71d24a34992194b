"""The entries of the table of verbs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from reconciler.cli.options import VerbOptions


MAX_PORT = 65_535
MAX_SECONDS = 365 * 86_400.0


class ArgumentOptions(TypedDict, total=False):
    """The parameters of ``ArgumentParser.add_argument`` that the table uses."""

    action: str
    choices: Sequence[str]
    default: str | float | list[str]
    help: str
    metavar: str
    nargs: str
    required: bool
    type: Callable[[str], float]


def count(text: str) -> int:
    """Return a number of rows, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1")
    return int(text)


def port(text: str) -> int:
    """Return a TCP port; 0 selects a free one."""
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} must be a port from 0 to {MAX_PORT}")
    return int(text)


def seconds(text: str) -> float:
    """Return a time in seconds, more than 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, more than 0")
    return value


Argument = tuple[tuple[str, ...], ArgumentOptions]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: ``module`` under ``reconciler.cli`` holds ``function`` (default: the verb's name), which gets the ``options``."""

    name: str
    module: str
    options: type[VerbOptions]
    help: str
    arguments: tuple[Argument, ...] = ()
    description: str = ""
    function: str = ""


def arg(*flags: str, **options: Unpack[ArgumentOptions]) -> Argument:
    """Return one argument: its flags, and its parameters for ``ArgumentParser.add_argument``."""
    return flags, options
