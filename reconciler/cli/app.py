"""``app``: registers an App of a provider, and shows how one is set. The parts are in `app_create` and `app_status`."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.cli.options import AppOptions
from reconciler.model.errors import UsageError

_TAKES: Mapping[str, str] = {
    "org": "create",
    "url": "create",
    "user": "create",
    "api_url": "create",
    "name": "create",
    "permission": "create",
    "event": "create",
    "out": "create",
    "no_browser": "create",
    "port": "create",
    "exit_code": "status",
    "watch": "status",
    "utc": "status",
}


def app(options: AppOptions) -> int:
    """Run the action."""
    for name, action in _TAKES.items():
        if getattr(options, name) and options.action != action:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with `app {action}`", hint=f"See `reconciler app {action} --help`."
            )
    if options.action == "create":
        from reconciler.cli.app_create import create

        return create(options)
    from reconciler.cli.app_status import show

    return show(options)


__all__ = ["app"]
