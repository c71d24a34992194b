"""What the tests read out of the Markdown pages: commands, code blocks, links, headings, names in backticks."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_ENDS = {"|", "&&", "||", ";", "&"}
_REDIRECTION = re.compile(r"(?<=\s)\d?(?:>>?|<)(?:&\d|\s*\S+)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def pages() -> list[Path]:
    """Every page that users read."""
    top = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")]
    top += [ROOT / "examples" / name for name in ("README.md", "keyless/README.md")]
    return top + sorted((ROOT / "docs").rglob("*.md"))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    return [Block(language, body) for language, body in _FENCE.findall(text)]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def inline(text: str) -> list[str]:
    """Names in backticks, outside of code blocks."""
    return [name.replace("\\|", "|") for name in _INLINE.findall(prose(text))]


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    found: set[str] = set()
    for title in _HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def shell_lines(text: str) -> list[str]:
    """Commands of console blocks (after ``$``) and of sh blocks, with continuation lines joined."""
    lines: list[str] = []
    for block in blocks(text):
        body = block.text.replace("\\\n", " ")
        if block.language == "console":
            lines += [line[2:] for line in body.splitlines() if line.startswith("$ ")]
        elif block.language in {"sh", "bash"}:
            lines += [line for line in body.splitlines() if line.strip() and not line.startswith("#")]
    return lines


def commands(text: str) -> list[list[str]]:
    """Arguments of every ``reconciler …`` in code blocks and in backticks; what holds a placeholder VERB is left out.

    A verb alone in backticks is its name and no command: it is asked for its help.
    """
    found = [words for line in shell_lines(text) for words in _calls(line)]
    for name in inline(text):
        if name.startswith("reconciler "):
            found += [words if len(words) > 1 or words[0].startswith("-") else [*words, "--help"] for words in _calls(name)]
    return [words for words in found if "VERB" not in words]


def _calls(line: str) -> list[list[str]]:
    """Arguments of the program in each simple command of a line."""
    calls: list[list[str]] = []
    simple: list[str] = []
    line = _REDIRECTION.sub("", line)
    for word in [*shlex.split(line, comments=True), ";"]:
        ends = word in _ENDS
        if not ends:
            simple.append(word.removesuffix(";"))
        if ends or word.endswith(";"):
            while simple and (simple[0] in {"until", "do", "if", "then", "!"} or _ASSIGNMENT.match(simple[0])):
                simple.pop(0)
            if simple and simple[0].rpartition("/")[2] == "reconciler":
                calls.append(simple[1:])
            simple = []
    return calls
