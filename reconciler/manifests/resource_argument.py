"""The resource that a person names in a command or a request. It loads nothing of the engine: commands that only read the state start fast."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from reconciler.manifests.nearest import Guesses
from reconciler.model.errors import UsageError
from reconciler.model.resources import Kind, ResourceId


def parse_resource(text: str, known: AbstractSet[ResourceId]) -> ResourceId:
    """Return the identity in ``text``: ``KIND/NAME`` or ``KIND/NAME@CANVAS``. The case of the kind does not matter.

    Without a canvas it is the only one of ``known`` with this name, or the default one. Raises `UsageError`.
    """
    body, _, canvas = text.partition("@")
    kind, slash, name = body.partition("/")
    kinds = {member.value.lower(): member.value for member in Kind}
    if not slash or not name or kind.lower() not in kinds:
        same_name = sorted(str(candidate) for candidate in known if candidate.name == body)
        near = Guesses().nearest(kind.lower(), list(kinds)) if slash and name and kind.lower() not in kinds else ""
        meant = same_name[0] if same_name else f"{kinds[near]}/{name}" if near else ""
        hint = f"Did you mean {meant}?" if meant else "Kinds: " + ", ".join(kinds.values())
        raise UsageError(f"{text!r} is not KIND/NAME", hint=hint)
    kind = kinds[kind.lower()]
    if canvas:
        return ResourceId(kind, canvas, name)
    matches = [candidate for candidate in known if candidate.kind == kind and candidate.name == name]
    if len(matches) > 1 and not any(match.canvas == "default" for match in matches):
        raise UsageError(
            f"{text} is in more than one canvas", hint="Name one of: " + ", ".join(str(match) for match in sorted(matches))
        )
    default = ResourceId(kind, "default", name)
    return matches[0] if matches and default not in matches else default
