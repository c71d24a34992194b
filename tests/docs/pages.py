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
_STOPS = {"|", ">", ">>", "&&", "||", ";", "&", "<", "2>"}


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def pages() -> list[Path]:
    """Every page that users read."""
    top = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "examples/README.md")]
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
    """Arguments of every ``reconciler …`` in code blocks and in backticks; what holds a placeholder VERB is left out."""
    candidates = shell_lines(text) + [name for name in inline(text) if name.startswith("reconciler ")]
    found: list[list[str]] = []
    for line in candidates:
        words = shlex.split(line, comments=True)
        while "reconciler" in words:
            start = words.index("reconciler") + 1
            end = next((i for i in range(start, len(words)) if words[i] in _STOPS), len(words))
            if "VERB" not in words[start:end]:
                found.append([word.rstrip(";") for word in words[start:end]])
            words = words[end:]
    return found
