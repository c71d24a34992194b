"""What a row of the table of verbs is made of."""

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


def arg(*flags: str, **options: Any) -> Argument:
    """Return an argument of argparse: its flags, and the options of ``add_argument``."""
    return flags, options
