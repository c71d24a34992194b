"""The identity of a stage's requests (``executor.spec.auth``): what cannot work, whatever event arrives. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from reconciler.drivers.specs import SPECS, spec_of
from reconciler.manifests.kinds import CallAuthSpec, StageSpec
from reconciler.manifests.templates import has_template
from reconciler.model.json import escape
from reconciler.model.values import is_loopback

Invalid = tuple[str, str, str, str]
"""(code, pointer, message, hint)"""
_SPEC = "/spec/executor/spec"
_AUTH = f"{_SPEC}/auth"
_KEYS = ("audience", "service", "region")
_FORM = "Write `auth: {integration: NAME}`, or `auth: {oidc: {audience: …}}` for an ID token of the daemon."


def auth_problems(stage: StageSpec) -> Iterator[Invalid]:
    """Yield what is wrong with ``auth`` of an `http` executor, as far as the stage alone shows it."""
    auth = stage.executor.call_auth
    if auth is None:
        return
    if auth.integration is None and auth.oidc is None:
        yield "RC1203", _AUTH, "auth names no identity", _FORM
    elif auth.integration is not None and auth.oidc is not None:
        yield "RC1206", f"{_AUTH}/oidc", "auth names two identities: an Integration and the daemon's own ID token", _FORM
    elif auth.oidc is not None:
        for key in _given(auth):
            yield (
                "RC1206",
                f"{_AUTH}/{key}",
                f"{key} goes with auth.integration",
                f"The audience of the own token is auth.oidc.{key}.",
            )
        yield from _exchanged(auth.oidc.audience, f"{_AUTH}/oidc/audience")
    if auth.audience is not None:
        yield from _exchanged(auth.audience, f"{_AUTH}/audience")
    yield from _plain(str(stage.executor.spec.get("url", "")))
    yield from _headers(stage, frozenset({"authorization"}))


def caller_problems(provider: str, name: str, stage: StageSpec) -> Iterator[Invalid]:
    """Yield why the Integration ``name`` of ``provider`` cannot be the identity that ``stage`` asks for."""
    auth, spec = stage.executor.call_auth, spec_of(provider)
    if auth is None:
        return
    able = [each.name for each in SPECS.values() if each.caller is not None]
    if spec.caller is None:
        message = f"{name} is an Integration of type {provider}: its credential opens {spec.title} itself, and no other service may see it"
        hint = f"Name an Integration of type {' or '.join(able)}, or use `auth: {{oidc: {{audience: …}}}}`."
        yield "RC4403", f"{_AUTH}/integration", message, hint
        return
    for key in _given(auth):
        if key not in spec.caller.keys:
            others = [each.name for each in SPECS.values() if each.caller is not None and key in each.caller.keys]
            hint = f"With {provider} write {' or '.join(spec.caller.keys)} where the host of the URL does not say it."
            yield "RC1206", f"{_AUTH}/{key}", f"{key} goes with an Integration of type {' or '.join(others)}", hint
    host, given = _host(str(stage.executor.spec.get("url", ""))), {key: str(getattr(auth, key)) for key in _given(auth)}
    missing = spec.caller.missing(host, given) if host else ""
    if missing:
        message = f"the host {host} does not say the {missing} that a call with {name} is for"
        yield "RC4405", _AUTH, message, f"Write `auth: {{integration: {name}, {missing}: …}}`."
    yield from _headers(stage, frozenset(spec.caller.headers) - {"authorization"})


def _given(auth: CallAuthSpec) -> list[str]:
    return [key for key in _KEYS if getattr(auth, key) is not None]


def _exchanged(audience: str, pointer: str) -> Iterator[Invalid]:
    """A token for the exchange of a cloud is worth a credential of that cloud: no service may receive it."""
    for spec in SPECS.values():
        if any(fnmatchcase(audience, pattern) for pattern in spec.exchange_audiences):
            message = f"{audience} is the audience of {spec.title}'s token exchange: the service could exchange the token there"
            hint = f"Name the audience that the service itself expects, or use an Integration of type {spec.name}."
            yield "RC4407", pointer, message, hint


def _plain(url: str) -> Iterator[Invalid]:
    host = _host(url)
    if url.lower().startswith("http://") and host and not is_loopback(host):
        hint = "Use https. Only an address of the daemon's own host, in `network.allow`, may be called over http."
        yield "RC4402", f"{_SPEC}/url", "a credential is not sent over http: anybody on the way could read it", hint


def _headers(stage: StageSpec, taken: frozenset[str]) -> Iterator[Invalid]:
    for name in stage.executor.spec.get("headers") or {}:
        if name.lower() in taken:
            hint = "Remove the header, or remove `auth`."
            yield "RC4406", f"{_SPEC}/headers/{escape(name)}", f"{name} is a header of the identity", hint


def _host(url: str) -> str:
    """Return the host of a URL in lower case; empty if it is a template or cannot be read, which is reported elsewhere."""
    root = "/".join(url.split("/", 3)[:3])
    try:
        return "" if has_template(root) else (urlsplit(root).hostname or "")
    except ValueError:
        return ""


__all__ = ["auth_problems", "caller_problems"]
