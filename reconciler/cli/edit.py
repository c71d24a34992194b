"""Edit a manifest in place, keeping comments, order and quoting (ruamel.yaml's round trip)."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.model.resources import ResourceId


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.explicit_start = False
    yaml.version = None
    return yaml


@dataclass
class EditableDocument:
    """One document of a file; the others are written back as they were, byte for byte."""

    data: Any
    before: str
    after: str

    @classmethod
    def find(cls, path: Path, identity: ResourceId) -> EditableDocument | None:
        """Return the document of ``identity`` in ``path``, or None."""
        parts = split_documents(path.read_text(encoding="utf-8"))
        for index, part in enumerate(parts):
            data = _yaml().load(_body(part))
            if isinstance(data, dict) and _identity(data) == identity:
                return cls(data, "".join(parts[:index]) + _marker(part), "".join(parts[index + 1 :]))
        return None

    def render(self) -> str:
        """Return the whole file with this document as it is now."""
        out = io.StringIO()
        _yaml().dump(self.data, out)
        text = out.getvalue()
        if not text.endswith("\n"):
            text += "\n"
        return self.before + text + self.after

    def save(self, path: Path) -> None:
        """Replace ``path`` atomically, keeping its mode."""
        mode = path.stat().st_mode & 0o777
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.render())
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)


def split_documents(text: str) -> list[str]:
    """Cut a YAML stream at its ``---`` lines; each part keeps its own marker, so that joining gives ``text`` again."""
    parts: list[str] = []
    current: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("---") and (len(line.rstrip()) == 3 or line[3] in " \t"):
            if current:
                parts.append("".join(current))
            current = [line]
        else:
            current.append(line)
    if current:
        parts.append("".join(current))
    return parts


def _marker(part: str) -> str:
    first, newline, _ = part.partition("\n")
    return first + newline if first.startswith("---") and first.rstrip() == "---" else ""


def _body(part: str) -> str:
    return part[len(_marker(part)) :]


def _identity(data: Any) -> ResourceId | None:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict) or "name" not in metadata or "kind" not in data:
        return None
    return ResourceId(str(data["kind"]), str(metadata.get("canvasId", "default")), str(metadata["name"]))
