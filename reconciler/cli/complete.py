"""What the shell completes: verbs, options, and the names in the status file.

The completion scripts call it at every press of the tab key, so it is fast, never blocks, and never prints an error.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from reconciler.cli.verb import Argument, Verb
from reconciler.cli.verbs import GLOBALS, VERBS

BUDGET_S = 0.5
"""The answer is empty after this time: a folder over the network may not answer."""
MAX_STATUS_BYTES = 64 << 20
MAX_CANDIDATES = 2_000
MAX_CONFIG_BYTES = 1 << 20
CONFIG_NAME = "reconciler.yaml"
STATUS_NAME = "state/status.json"
STATUS_VARIABLE = "RECONCILER_STATUS_FILE"
"""Defaults of `reconciler.config.settings`, whose import takes longer than all else here; a test compares them."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:/._-]*\Z")
"""Candidates of another form are left out: a shell could act on them."""
_BASH_BREAKS = "@:="
"""Characters at which bash begins a new word: it replaces only what is behind them."""
_DIGEST_PREFIX = "sha256:"


class _Named(msgspec.Struct, frozen=True):
    name: str
    kind: str = ""
    canvas: str = "default"

    def shown(self, kind: str = "") -> str:
        """Return the name as a user types it, with ``kind/`` before it unless that is empty."""
        canvas = "" if self.canvas == "default" else f"@{self.canvas}"
        return f"{kind}/{self.name}{canvas}" if kind else f"{self.name}{canvas}"


class _Run(msgspec.Struct, frozen=True):
    id: str
    item: str = ""


class _StageNames(msgspec.Struct, frozen=True):
    last: _Run | None = None


class _BlockedSet(msgspec.Struct, frozen=True):
    sha256: str


class _PlanNames(msgspec.Struct, frozen=True):
    blocked: _BlockedSet | None = None


class Names(msgspec.Struct, frozen=True):
    """The names in a status file."""

    resources: tuple[_Named, ...] = ()
    stages: tuple[_StageNames, ...] = ()
    plans: tuple[_PlanNames, ...] = ()

    def of_kind(self, kind: str) -> list[str]:
        """Return the names of all resources of a kind."""
        return [row.shown() for row in self.resources if row.kind == kind]

    def runs(self) -> list[str]:
        """Return the newest execution of each stage, and its item."""
        last = [stage.last for stage in self.stages if stage.last is not None]
        return [run.id for run in last] + [run.item for run in last if run.item]

    def digests(self) -> list[str]:
        """Return the digests of blocked changes."""
        return [plan.blocked.sha256 for plan in self.plans if plan.blocked is not None]


def main(arguments: Sequence[str]) -> list[str]:
    """Return the candidates for ``SHELL LINE``, where LINE is the command line up to the cursor."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, BUDGET_S)
    try:
        shell, line = arguments
        words = _words(line)
        found = candidates(words[1:-1], words[-1])
    except Exception:  # noqa: BLE001  a shell that completes shows no error
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    cut = max((words[-1].rfind(character) for character in _BASH_BREAKS), default=-1) + 1 if shell == "bash" else 0
    return [word[cut:] for word in found]


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _words(line: str) -> list[str]:
    """Return the words of a command line; the last one is the word at the cursor, maybe empty."""
    words = line[:10_000].split()
    return [*words, ""] if not line or line[-1].isspace() else words


def candidates(before: Sequence[str], current: str) -> list[str]:
    """Return the words that may stand in the place of ``current``, after the words ``before``."""
    verb, positions, waiting = _read(before)
    arguments = (*(verb.arguments if verb is not None else ()), *GLOBALS)
    prefix = ""
    if waiting is not None:
        words = _values(waiting, before)
    elif current.startswith("--") and "=" in current:
        flag = current.partition("=")[0]
        option = _option(arguments, flag)
        words = _values(option, before) if option is not None else []
        prefix = f"{flag}="
    elif current.startswith("-"):
        words = [*(flag for flags, _ in arguments for flag in flags if flag.startswith("-")), "--help"]
        return [word for word in words if word.startswith(current)]
    elif verb is None:
        words = [each.name for each in VERBS]
    else:
        position = _position(verb, positions)
        words = _values(position, before) if position is not None else []
    start = current.lower()
    found = (f"{prefix}{word}" for word in dict.fromkeys(words) if _SAFE.match(word))
    return [word for word in found if word.lower().startswith(start)][:MAX_CANDIDATES]


def _read(before: Sequence[str]) -> tuple[Verb | None, int, Argument | None]:
    """Return the verb in ``before``, the number of positions after it, and the option that waits for its value."""
    by_name = {verb.name: verb for verb in VERBS}
    verb, positions, waiting = None, 0, None
    for word in before:
        if waiting is not None:
            waiting = None
        elif word.startswith("-"):
            option = _option((*(verb.arguments if verb is not None else ()), *GLOBALS), word)
            waiting = option if option is not None and option[1].get("action") != "store_true" else None
        elif verb is None:
            verb = by_name.get(word)
            if verb is None:
                raise ValueError(word)
        else:
            positions += 1
    return verb, positions, waiting


def _option(arguments: Iterable[Argument], flag: str) -> Argument | None:
    return next((argument for argument in arguments if flag in argument[0]), None)


def _position(verb: Verb, number: int) -> Argument | None:
    """Return the argument in position ``number``; one that repeats takes all positions from its own on."""
    places = [argument for argument in verb.arguments if not argument[0][0].startswith("-")]
    if number < len(places):
        return places[number]
    return places[-1] if places and places[-1][1].get("nargs") == "*" else None


def _values(argument: Argument, before: Sequence[str]) -> list[str]:
    """Return the values that an argument takes, as far as they are known; files are left to the shell."""
    flags, options = argument
    choices = options.get("choices")
    if choices is not None:
        return list(choices)
    what = options.get("metavar", "")
    if flags[0] == "kind":
        return _kinds()
    named = (
        what.startswith("KIND") or what in {"INTEGRATION", "SOURCE", "ID", "ID|sha256:…"} or flags[0] in {"--stage", "--source"}
    )
    if not named:
        return []
    names = read_names(before)
    if what.startswith("KIND"):
        resources = [row.shown(row.kind) for row in names.resources]
        return [*_kinds(), *resources] if what.startswith("KIND[") else resources
    by_what = {"INTEGRATION": "Integration", "SOURCE": "EventSource", "--stage": "Stage", "--source": "EventSource"}
    kind = by_what.get(what) or by_what.get(flags[0])
    if kind is not None:
        return names.of_kind(kind)
    return [*names.runs(), *(names.digests() if _DIGEST_PREFIX in what else ())]


def _kinds() -> list[str]:
    from reconciler.model.resources import Kind

    return [kind.value for kind in Kind]


def read_names(before: Sequence[str]) -> Names:
    """Return the names in the status file of the configuration that the command line names."""
    given = dict([*(word.partition("=")[::2] for word in before), *itertools.pairwise(before)])
    config = given.get("--config")
    descriptor = os.open(_status_file(Path(config or CONFIG_NAME).expanduser()), os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_STATUS_BYTES:
            return Names()
        return msgspec.json.decode(file.read(), type=Names)


def _status_file(config: Path) -> Path:
    """Return the path of the status file. The configuration is loaded only if it can be another one than the default: that is slow."""
    plain_file = config.is_file() and config.stat().st_size <= MAX_CONFIG_BYTES
    text = config.read_text(encoding="utf-8") if plain_file else ""
    if STATUS_VARIABLE not in os.environ and "status" not in text:
        return config.absolute().parent / STATUS_NAME
    from reconciler.config.load import load_config

    return Path(load_config(config if plain_file else None, os.environ).status.file)


__all__ = ["candidates", "main", "read_names"]
