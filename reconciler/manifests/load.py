"""All files → desired resources: identities, references, cycles. The result of each file is cached by its blob id. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Protocol

from reconciler.drivers.specs import OBJECT_KINDS, SINKS, spec_of
from reconciler.manifests.consequences import names_unread, without_consequences
from reconciler.manifests.cycles import find_cycles
from reconciler.manifests.feasible import called_urls
from reconciler.manifests.identity import caller_problems
from reconciler.manifests.kinds import EventSourceSpec, StageSpec
from reconciler.manifests.nearest import Guesses
from reconciler.manifests.parse import LOADER_VERSION, Parsed, ParsedFile, parse_file
from reconciler.manifests.providers import source_problems, stage_problems
from reconciler.manifests.references import key_beside, references_in
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.manifests.source_lines import with_source_lines
from reconciler.manifests.text import YamlProblem
from reconciler.model.codec import decode, encode, from_json, gc_paused
from reconciler.model.errors import Problem
from reconciler.model.resources import Desired, EncryptedFile, Kind, Location, Resource, ResourceId, is_encrypted_name

DEFAULT_CANVAS = "default"
Refused = Callable[[str], str]
MAX_PROBLEMS = 1_000
"""Most problems of a revision that are explained and all reported. Of more, the first `MAX_OF_FILE` of each file are reported."""
MAX_OF_FILE = 10
MAX_IN_CIRCLE = 8
_WRITTEN_AS = {
    f"/spec/{key}/": f"/spec/{other}/" for _, rules in OBJECT_KINDS.values() for other, key in rules.key_aliases.items()
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a revision; ``blob`` identifies its content."""

    path: str
    blob: str
    data: bytes


class ParseCache(Protocol):
    """Cache of parsed files, by a key made of their blob ids."""

    def get_many(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Return the cached rows of ``blobs``."""

    def put_many(self, rows: Mapping[str, bytes]) -> None:
        """Add ``rows``."""


@dataclass(slots=True)
class _Entry:
    """One document and the path of its file."""

    id: ResourceId
    path: str
    parsed: Parsed
    problems: list[Problem] = field(default_factory=list)
    undecided: bool = False
    """Whether it refers to a name that a file which could not be read may declare."""
    references: list[ResourceId] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return self.parsed.valid and not self.undecided and not any(problem.is_error for problem in self.problems)

    def say(self, code: str, pointer: str, message: str, hint: str = "") -> None:
        place = pointer
        for folded, written in _WRITTEN_AS.items():  # the manifest may have the other spelling
            if place.startswith(folded) and place not in self.parsed.places:
                place = written + place.removeprefix(folded)
        while place and place not in self.parsed.places:
            place = place.rpartition("/")[0]
        line, column = self.parsed.places.get(place, (self.parsed.line, self.parsed.column))
        self.problems.append(Problem(Location(self.path, line, column), code, message, pointer, hint, resource=self.id))


def load(
    files: Iterable[SourceFile],
    *,
    revision: str,
    cache: ParseCache | None = None,
    sandbox: bool = False,
    refused: Refused = lambda _url: "",
) -> Desired:
    """Return the resources that ``files`` declare, every problem, and the identities of invalid documents.

    ``refused`` returns the reason why this installation must not call a URL, or an empty text.
    """
    ordered = sorted(files, key=lambda file: file.path)
    encrypted = {file.path: EncryptedFile(file.blob, file.data) for file in ordered if is_encrypted_name(file.path)}
    manifests = [file for file in ordered if file.path not in encrypted]
    with gc_paused():
        desired = _load(manifests, revision, cache, sandbox=sandbox, refused=refused)
    lined = with_source_lines(desired.problems, {file.path: file.data for file in manifests})
    return dataclasses.replace(desired, problems=lined, encrypted=encrypted)


def _load(files: list[SourceFile], revision: str, cache: ParseCache | None, *, sandbox: bool, refused: Refused) -> Desired:
    entries, problems = _entries(files, _parse(files, cache, sandbox=sandbox))
    _refuse_twins(entries)
    index = {entry.id: entry for entry in entries if entry.id.name}
    unread = names_unread(((file.path, file.data) for file in files), problems)
    names = _names(index)
    guesses = Guesses()
    for entry in entries:
        if entry.id.name:
            _find_references(entry, index, names, guesses, unread=unread)
        _refuse_urls(entry, refused)
    problems = without_consequences(problems, [problem for entry in entries for problem in entry.problems])
    _refuse_cycles(entries, index)
    _refuse_locked_secrets(entries, index)
    _refuse_renames(entries, index)
    problems += [problem for entry in entries for problem in entry.problems]
    valid = [entry for entry in entries if entry.valid]
    invalid = {entry.id for entry in entries if not entry.valid and entry.id.name and entry.id.kind}
    resources = tuple(sorted((_resource(entry) for entry in valid), key=lambda resource: resource.id))
    return Desired(
        revision, resources, _capped(sorted(set(problems), key=_order)), frozenset(invalid - {r.id for r in resources})
    )


def _capped(problems: list[Problem]) -> tuple[Problem, ...]:
    """Return ``problems``; of more than `MAX_PROBLEMS` only the first of each file, and the number of the others."""
    if len(problems) <= MAX_PROBLEMS:
        return tuple(problems)
    kept: list[Problem] = []
    for _, of_file in groupby(problems, key=lambda problem: problem.location.file):
        group = list(of_file)
        kept += group[:MAX_OF_FILE]
        if len(group) > MAX_OF_FILE:
            more = f"{len(group) - MAX_OF_FILE} more problems in this file"
            kept.append(Problem(group[MAX_OF_FILE].location, "RC1001", more))
    return tuple(kept)


def _order(problem: Problem) -> tuple[Location, str, str, str]:
    return problem.location, problem.code, problem.pointer, problem.message


def _parse(files: list[SourceFile], cache: ParseCache | None, *, sandbox: bool) -> dict[str, ParsedFile]:
    keys = {file.blob: f"{LOADER_VERSION}{'s' if sandbox else ''}:{file.blob}" for file in files}
    known = cache.get_many(keys.values()) if cache is not None else {}
    parsed: dict[str, ParsedFile] = {}
    fresh: dict[str, bytes] = {}
    problems = 0
    for file in files:
        if file.blob in parsed:
            continue
        payload = known.get(keys[file.blob])
        if payload is not None:
            parsed[file.blob] = decode(ParsedFile, payload)
            continue
        explain = problems < MAX_PROBLEMS
        parsed[file.blob] = parse_file(file.data, sandbox=sandbox, explain=explain)
        problems += len(parsed[file.blob].problems)
        if cache is not None and explain:
            fresh[keys[file.blob]] = encode(parsed[file.blob])
    if cache is not None and fresh:
        cache.put_many(fresh)
    return parsed


def _entries(files: list[SourceFile], parsed: Mapping[str, ParsedFile]) -> tuple[list[_Entry], list[Problem]]:
    entries: list[_Entry] = []
    problems: list[Problem] = []
    for file in files:
        documents, reported = parsed[file.blob].documents, parsed[file.blob].problems
        of_file = [
            _Entry(ResourceId(document.kind, document.canvas, document.name), file.path, document) for document in documents
        ]
        for problem, index in reported:
            target = of_file[index] if 0 <= index < len(of_file) else None
            resource = target.id if target is not None and target.id.name else None
            problems.append(_problem(problem, file.path, resource))
        entries += of_file
    return entries, problems


def _problem(problem: YamlProblem, path: str, resource: ResourceId | None) -> Problem:
    return Problem(
        Location(path, problem.line, problem.column),
        problem.code,
        problem.message,
        problem.pointer,
        problem.hint,
        resource=resource,
    )


def _refuse_twins(entries: list[_Entry]) -> None:
    """Refuse documents with the same identity; each problem names the places of the others."""
    by_id: dict[ResourceId, list[_Entry]] = {}
    for entry in entries:
        if entry.id.name and entry.id.kind:
            by_id.setdefault(entry.id, []).append(entry)
    for identity, twins in by_id.items():
        for entry in twins if len(twins) > 1 else ():
            others = islice((Location(o.path, o.parsed.line, o.parsed.column) for o in twins if o is not entry), 3)
            also = ", ".join(map(str, others)) + (f" and {len(twins) - 4} more places" if len(twins) > 4 else "")
            entry.say("RC1211", "/metadata/name", f"{identity} is declared more than once", f"Also in {also}. Keep one.")


def _lookup(entry: _Entry, kind: str, name: str, index: Mapping[ResourceId, _Entry]) -> ResourceId | None:
    """Return the resource that ``name`` refers to: in the own canvas first, then in ``default``."""
    for canvas in (entry.id.canvas, DEFAULT_CANVAS):
        identity = ResourceId(kind, canvas, name)
        if identity in index:
            return identity
    return None


def _refuse_urls(entry: _Entry, refused: Refused) -> None:
    for pointer, url in called_urls(entry.parsed.kind, entry.parsed.spec):
        reason = refused(url)
        if reason:
            entry.say("RC1279", pointer, reason, "Add it to `network.allow` of the configuration if it is meant; see --config.")


def _names(index: Mapping[ResourceId, _Entry]) -> dict[tuple[str, str], set[str]]:
    """Return the declared names by kind and canvas."""
    names: dict[tuple[str, str], set[str]] = {}
    for identity in index:
        names.setdefault((identity.kind, identity.canvas), set()).add(identity.name)
    return names


def _find_references(
    entry: _Entry,
    index: Mapping[ResourceId, _Entry],
    names: Mapping[tuple[str, str], set[str]],
    guesses: Guesses,
    *,
    unread: frozenset[str],
) -> None:
    for kind, name, pointer in entry.parsed.named or references_in(entry.id.kind, entry.parsed.spec):
        target = _lookup(entry, kind, name, index)
        if target is not None:
            entry.references.append(target)
            _check_target(entry, index[target], pointer, guesses)
        elif name in unread:  # one cause, one error: the document that cannot be read
            entry.undecided = True
        else:
            known = names.get((kind, entry.id.canvas), set()) | names.get((kind, DEFAULT_CANVAS), set())
            near = guesses.nearest(name, known)
            where = "canvas 'default'" if entry.id.canvas == DEFAULT_CANVAS else f"canvas {entry.id.canvas!r} or in 'default'"
            hint = f"Did you mean {near!r}?" if near else f"Declare it in {where}."
            entry.say("RC1212", pointer, f"there is no {kind} {name!r} in {where}", hint)


def _check_target(entry: _Entry, target: _Entry, pointer: str, guesses: Guesses) -> None:
    if target.id.kind == Kind.SECRET.value and target.parsed.valid:
        _check_key(entry, target, pointer, guesses)
    if target.id.kind != Kind.INTEGRATION.value or not target.parsed.valid or not entry.parsed.spec:
        return  # an entry without a spec has problems of its own already
    if pointer == "/spec/executor/integration/name":
        _check_executor(entry, target, pointer)
    elif pointer == "/spec/executor/spec/auth/integration":
        for problem in caller_problems(_provider(target), target.id.name, from_json(StageSpec, entry.parsed.spec)):
            entry.say(*problem)
    elif pointer.startswith("/spec/sink/"):
        _check_sink(entry, target, pointer)
    elif entry.id.kind == Kind.SECRET.value:
        _check_store(entry, target, pointer)
    elif pointer == "/spec/integration/name":
        _check_owner(entry, target, pointer)
        if entry.id.kind == Kind.EVENT_SOURCE.value:
            _check_source(entry, target)


def _check_executor(entry: _Entry, target: _Entry, pointer: str) -> None:
    stage, provider = from_json(StageSpec, entry.parsed.spec), _provider(target)
    executor = stage.executor.type
    if executor not in (provider, "http", "noop"):
        entry.say("RC1213", pointer, f"the executor is {executor}, but the integration {target.id.name} is {provider}")
        return
    for problem in stage_problems(provider, stage):
        entry.say(*problem)


def _check_sink(entry: _Entry, target: _Entry, pointer: str) -> None:
    sink, provider = pointer.split("/")[3], _provider(target)
    if sink in SINKS and provider != SINKS[sink].name:
        message = f"{sink} needs an Integration of type {SINKS[sink].name}, {target.id.name} is {provider}"
        entry.say("RC1213", pointer, message)


def _check_store(entry: _Entry, target: _Entry, pointer: str) -> None:
    """A Secret in a provider's store needs an Integration of that provider: the block has its name."""
    wanted, provider = pointer.split("/")[2], _provider(target)
    if provider != wanted:
        entry.say("RC1213", pointer, f"the Secret needs an Integration of type {wanted}, {target.id.name} is {provider}")


def _check_owner(entry: _Entry, target: _Entry, pointer: str) -> None:
    """The integration of an object's kind must be of the provider that has such objects."""
    provider = _provider(target)
    owner = OBJECT_KINDS[entry.id.kind][0].name if entry.id.kind in OBJECT_KINDS else provider
    if provider != owner:
        message = f"a {entry.id.kind} needs an Integration of type {owner}, {target.id.name} is {provider}"
        entry.say("RC1213", pointer, message)


def _check_source(entry: _Entry, target: _Entry) -> None:
    source, provider = from_json(EventSourceSpec, entry.parsed.spec), _provider(target)
    if source.type not in (None, provider):
        entry.say("RC1213", "/spec/type", f"the type is {source.type}, but the integration {target.id.name} is {provider}")
        return
    allowed = spec_of(provider).sources
    if allowed and source.resource is not None and source.resource.type not in allowed:
        hint = f"Allowed: {', '.join(sorted(allowed))}."
        entry.say("RC1213", "/spec/resource/type", f"{provider} has no events of a {source.resource.type}", hint)
        return
    for problem in source_problems(provider, source):
        entry.say(*problem)


def _provider(integration: _Entry) -> str:
    return str(integration.parsed.spec.get("type"))


def _check_key(entry: _Entry, secret: _Entry, pointer: str, guesses: Guesses) -> None:
    """The key that is given with the name of a Secret must be one of its keys."""
    keys = from_json(SecretSpec, secret.parsed.spec).keys
    if keys is None:
        return
    key = key_beside({"spec": entry.parsed.spec}, pointer)
    if key is not None and key not in keys:
        near = guesses.nearest(key, keys)
        entry.say(
            "RC1214",
            pointer.rpartition("/")[0] + "/key",
            f"the Secret {secret.id.name!r} has no key {key!r}",
            f"Did you mean {near!r}?" if near else f"Its keys: {', '.join(sorted(keys)[:20])}{', …' if len(keys) > 20 else ''}.",
        )


def _refuse_cycles(entries: list[_Entry], index: Mapping[ResourceId, _Entry]) -> None:
    """Refuse connections that form a cycle: such stages would trigger each other forever."""
    kinds = {Kind.STAGE.value, Kind.CONNECTION_GROUP.value}
    connections = {entry.id: [r for r in entry.references if r.kind in kinds] for entry in entries if entry.id.kind in kinds}
    reported: set[ResourceId] = set()
    for cycle in find_cycles(connections):
        names = [str(resource) for resource in cycle]
        if len(names) > MAX_IN_CIRCLE:
            names[MAX_IN_CIRCLE - 1 :] = [f"… ({len(names) - MAX_IN_CIRCLE + 1} more)"]
        text = " → ".join([*names, names[0]])
        for resource in cycle:
            if resource not in reported:
                index[resource].say("RC1215", "/spec/connections", f"connections run in a circle: {text}")
        reported.update(cycle)


def _refuse_locked_secrets(entries: list[_Entry], index: Mapping[ResourceId, _Entry]) -> None:
    """Refuse a Secret that can only be opened with a value of its own: through its login, or through an Integration."""
    kinds = {Kind.SECRET.value, Kind.INTEGRATION.value}
    needs = {entry.id: [r for r in entry.references if r.kind in kinds] for entry in entries if entry.id.kind in kinds}
    for cycle in find_cycles(needs):
        text = " → ".join(str(resource) for resource in (*cycle[:MAX_IN_CIRCLE], cycle[0]))
        for resource in cycle:
            hint = "Keep the credential of the backend in another Secret, for example of provider `env` or `file`, or log in by `oidc`."
            index[resource].say("RC4088", "/spec", f"opening it needs itself: {text}", hint)


def _refuse_renames(entries: list[_Entry], index: Mapping[ResourceId, _Entry]) -> None:
    """Refuse ``movedFrom`` with the name of a resource that is still declared: it keeps its objects."""
    for entry in entries:
        former = entry.parsed.lifecycle.moved_from
        if former is None:
            continue
        identity = ResourceId(entry.id.kind, entry.id.canvas, former)
        if identity in index:
            entry.say(
                "RC1216",
                "/spec/lifecycle/movedFrom",
                f"{identity} is still declared in {index[identity].path}",
                "Remove it, or remove movedFrom.",
            )


def _resource(entry: _Entry) -> Resource:
    parsed = entry.parsed
    return Resource(
        entry.id,
        parsed.spec,
        Location(entry.path, parsed.line, parsed.column),
        parsed.lifecycle,
        parsed.labels,
        parsed.annotations,
        tuple(dict.fromkeys(entry.references)),
        parsed.digest,
    )
