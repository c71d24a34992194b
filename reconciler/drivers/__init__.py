"""Providers: dumb leaves. No diffing, no retry loops, no state, no engine."""

import sys

# httpx imports its own command line (click, rich, pygments: 60 to 160 ms) wherever those are installed; without it it does well.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
