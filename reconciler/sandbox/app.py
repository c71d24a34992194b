"""The base of every simulated provider: routes, state, settings, faults and a log of requests.

A simulator is a subclass of `Simulator`: it names its ``provider``, its own ``defaults`` of settings, answers `seed` (the
first state, plain JSON), and lists its `routes`. Handlers are plain functions ``handler(call, **path_parameters) -> Reply``:
they run one at a time on one event loop, so that each is atomic. An error answer is raised as `RefusedCall`.

Tests and users control a simulator below ``/_sandbox/`` (see `reconciler.sandbox.admin`), without authentication: a sandbox
listens on loopback only.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypedDict, TypeVar
from urllib.parse import parse_qsl

import orjson

from reconciler.sandbox.shapes import MalformedJson, json_object, merged, number, texts, whole, without

LOG_LIMIT = 20_000
HISTORY_LIMIT = 200
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    base_url: str = ""
    """``http://127.0.0.1:PORT``: what absolute links in answers begin with."""

    def json(self) -> object:
        """Return the decoded body; None for an empty body. Raises `ValueError` unless it is JSON."""
        return orjson.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``body``: None (empty), bytes or text (sent as they are), else JSON."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as it goes over the wire."""
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)

    @property
    def content_type(self) -> str:
        """The type that fits the body, unless ``headers`` name one."""
        return "text/plain; charset=utf-8" if isinstance(self.body, str | bytes) else "application/json; charset=utf-8"


class RefusedCall(Exception):
    """An answer that ends the handler. The handler must raise it before it changes anything."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


EFFECTS = ("answer", "reset", "mute", "truncate", "malformed")


@dataclass(slots=True)
class Fault:
    """What happens to matching requests: ``times`` times (0: always), after ``skip`` requests that succeed.

    ``effect``: ``answer`` (``status``, ``headers``, ``body`` instead of the real answer; with status 0 only the delay),
    ``reset`` (the connection is reset), ``mute`` (accepted, never answered), ``truncate`` (half of the real answer),
    ``malformed`` (200 with broken JSON). ``commit``: the change is made first, and only its answer is lost.
    """

    method: str = "*"
    path: str = ".*"
    times: int = 1
    skip: int = 0
    effect: str = "answer"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    delay_s: float = 0.0
    commit: bool = False
    id: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise ValueError(f"effect must be one of {', '.join(EFFECTS)}")
        re.compile(self.path)

    def takes(self, call: Call) -> bool:
        """Whether the fault applies to this request; counts the hit."""
        if self.method not in ("*", call.method) or re.search(self.path, call.path) is None:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class SlidingLimit:
    """At most ``limit`` units in any ``seconds``."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._log: deque[tuple[float, int]] = deque()
        self._sum = 0

    def take(self, now: float, cost: int = 1) -> float:
        """Take ``cost`` and return 0, or return in how many seconds it would fit (nothing is taken then)."""
        while self._log and self._log[0][0] <= now - self.seconds:
            self._sum -= self._log.popleft()[1]
        if self._sum + cost > self.limit:
            return max(self._log[0][0] + self.seconds - now, 0.001) if self._log else self.seconds
        self._log.append((now, cost))
        self._sum += cost
        return 0.0


Handler = Callable[..., Reply]
Route = tuple[str, str, Handler]
Options = Mapping[str, object]
"""What an action is given: the JSON object of its request."""
Action = Callable[[Options], object]
COMMON: Mapping[str, object] = {
    "latency_s": 0.0,  # each answer is late by this much
    "clock_skew_s": 0.0,  # the provider's clock is ahead of this host's by this much
    "date_header": True,  # answers tell the provider's time
    "pad_bytes": 0,  # answers to GET are filled up with blanks to this size
    "list_lag_s": 0.0,  # lists show the past
    "accept_duplicates": False,  # a provider without uniqueness: what a lost answer then doubles
    "page_size": 0,  # cap of the page size, 0: the provider's own
    "rate_limits": False,
    "deliver": False,  # send real events over HTTP
    "log_limit": LOG_LIMIT,
    "leave_out": [],  # names of fields that no JSON answer has, at any depth
}


class Simulator:
    """A provider with its state in memory. Subclasses name `provider` and `defaults`, and answer `seed` and `routes`."""

    provider = ""
    defaults: Mapping[str, object] = {}

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._host_clock = clock
        self.settings: dict[str, object] = {}
        self.state: dict[str, object] = {}
        self.faults: list[Fault] = []
        self.log: deque[tuple[float, Call, int, int]] = deque(maxlen=LOG_LIMIT)
        self.in_flight = 0
        self.received = 0
        self.base_url = "http://sandbox"
        self._fault_ids = 0
        self._history: dict[str, deque[tuple[float, list[Any]]]] = {}
        self._routes = _index(self.routes())
        self.reset()

    # what a provider says of itself

    def seed(self) -> dict[str, object]:
        """Return the state to begin with."""
        return {}

    def routes(self) -> Iterable[Route]:
        """Return (method, ``/path/{parameter}``, handler); a parameter is one path segment, ``{name+}`` is one or more."""
        return ()

    def before(self, call: Call) -> None:
        """Check authentication and limits of every request; raises `RefusedCall`."""

    def after(self, call: Call, reply: Reply) -> Reply:
        """Finish an answer: headers that every answer carries."""
        return reply

    def not_found(self, call: Call) -> Reply:
        """Return the answer for a path that does not exist."""
        return Reply(404, {"message": "Not Found"})

    def malformed(self, call: Call, message: str) -> Reply:
        """Return the answer for a field whose value has the wrong JSON type."""
        return Reply(400, {"message": message})

    def actions(self) -> Mapping[str, Action]:
        """Return what ``POST /_sandbox/do/NAME`` can make happen at the provider: events, renames, edits by hand."""
        return {}

    def restored(self) -> None:
        """React to a state that was put from outside: fill defaults, rebuild indexes."""

    # what the framework does

    def clock(self) -> float:
        """Return the provider's time, in seconds since the epoch."""
        return self._host_clock() + self.number("clock_skew_s")

    def number(self, setting: str) -> float:
        """Return a setting that is a number."""
        return number(self.settings[setting])

    def dated(self, reply: Reply) -> Reply:
        """Add the Date that every answer has, as RFC 9110 §6.6.1 requires of a server with a clock."""
        if not self.settings["date_header"] or "date" in {name.lower() for name in reply.headers}:
            return reply
        return dataclasses.replace(reply, headers={**reply.headers, "date": formatdate(self.clock(), usegmt=True)})

    def reset(self) -> None:
        """Reset state, settings, faults and log."""
        self.settings = {**COMMON, **self.defaults}
        self.faults.clear()
        self.log.clear()
        self.received = 0
        self._history.clear()
        self.state = self.seed()
        self.restored()

    def put_state(self, patch: Mapping[str, object], *, replace: bool = False) -> None:
        """Merge ``patch`` into the state (objects deeply, all else is replaced), or replace the whole state."""
        self.state = copy.deepcopy(dict(patch)) if replace else json_object(merged(self.state, patch))
        self._history.clear()
        self.restored()

    def patch_settings(self, patch: Mapping[str, object]) -> None:
        """Change settings; raises `ValueError` for one that does not exist."""
        unknown = sorted(set(patch) - set(self.settings))
        if unknown:
            raise ValueError(f"no setting {', '.join(unknown)}; there are: {', '.join(sorted(self.settings))}")
        self.settings.update(patch)
        if self.log.maxlen != self.settings["log_limit"]:
            self.log = deque(self.log, maxlen=int(self.number("log_limit")))

    def add_fault(self, **options: Any) -> Fault:
        """Add a fault for matching requests; see `Fault`."""
        self._fault_ids += 1
        fault = Fault(**options, id=self._fault_ids)
        self.faults.append(fault)
        return fault

    def fault_for(self, call: Call) -> Fault | None:
        """Return the first fault that applies to ``call``."""
        return next((fault for fault in self.faults if fault.takes(call)), None) if self.faults else None

    def answer(self, call: Call) -> Reply:
        """Run the request: routing, `before`, handler, `after`."""
        self.base_url = call.base_url or self.base_url
        try:
            self.before(call)
            handler, parameters = self._route(call)
            reply = self.not_found(call) if handler is None else handler(call, **parameters)
        except RefusedCall as refusal:
            reply = refusal.reply
        except MalformedJson as error:
            reply = self.malformed(call, str(error))
        reply = self.after(call, reply)
        size = int(self.number("pad_bytes"))
        if size and call.method == "GET" and reply.body is not None:
            reply = dataclasses.replace(
                reply, body=reply.content.ljust(size), headers={"content-type": reply.content_type, **reply.headers}
            )
        return reply

    def sent(self, reply: Reply) -> Reply:
        """Return ``reply`` as it goes over the wire: without the fields that the setting ``leave_out`` names."""
        if not self.settings["leave_out"] or isinstance(reply.body, bytes | str):
            return reply
        return dataclasses.replace(reply, body=without(reply.body, frozenset(texts(self.settings["leave_out"]))))

    def note(self, call: Call, status: int, fault: Fault | None) -> None:
        """Add to the log of requests; status 0 is "no answer was sent"."""
        self.log.append((self._host_clock(), call, status, fault.id if fault is not None else 0))

    def requests(self) -> Iterator[LoggedRequest]:
        """Return the log, oldest first. Credentials appear as a short hash: equal ones stay recognizable, none can be read."""
        return (_entry(*row) for row in list(self.log))

    def next_id(self) -> int:
        """Return a number that is unused in this state."""
        self.state["next_id"] = latest = whole(self.state.get("next_id", 1000)) + 1
        return latest

    @contextmanager
    def changing(self, key: str, items: list[T]) -> Iterator[list[T]]:
        """Wrap every change of the list ``items``, so that `lagged` can show it as it was."""
        lag = self.number("list_lag_s") > 0
        history = self._history.setdefault(key, deque(maxlen=HISTORY_LIMIT)) if lag else None
        if history is not None and not history:
            history.append((0.0, copy.deepcopy(items)))
        yield items
        if history is not None:
            history.append((self.clock(), copy.deepcopy(items)))

    def lagged(self, key: str, items: list[T]) -> list[T]:
        """Return ``items`` as they were ``list_lag_s`` ago: what an eventually consistent list shows."""
        lag = self.number("list_lag_s")
        history = self._history.get(key) if lag > 0 else None
        if not history:
            return items
        seen_at = self.clock() - lag
        return next((then for at, then in reversed(history) if at <= seen_at), history[0][1])

    def _route(self, call: Call) -> tuple[Handler | None, dict[str, str]]:
        for pattern, handler in self._routes.get((call.method, call.path.count("/")), ()):
            match = pattern.fullmatch(call.path)
            if match is not None:
                return handler, match.groupdict()
        for pattern, handler in self._routes.get((call.method, -1), ()):
            match = pattern.fullmatch(call.path)
            if match is not None:
                return handler, match.groupdict()
        return None, {}


_Routes = dict[tuple[str, int], list[tuple[re.Pattern[str], Handler]]]


def _index(routes: Iterable[Route]) -> _Routes:
    """Return compiled routes by method and number of segments; -1 holds those of any length."""
    index: _Routes = {}
    for method, path, handler in routes:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
        pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", pattern)
        depth = -1 if "+}" in path else path.count("/")
        index.setdefault((method, depth), []).append((re.compile(pattern), handler))
    return index


def parse_query(text: str) -> dict[str, str]:
    """Return query parameters; the last of equal names wins."""
    return dict(parse_qsl(text, keep_blank_values=True))


class LoggedRequest(TypedDict):
    """One entry of the log, as ``/_sandbox/requests`` shows it."""

    at: float
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: object
    status: int
    fault: int


def _entry(at: float, call: Call, status: int, fault: int) -> LoggedRequest:
    headers = {name: _shown(name, value) for name, value in call.headers.items()}
    body: object
    try:
        body = call.json()
    except ValueError:
        body = call.body.decode("utf-8", "replace")
    return {
        "at": at,
        "method": call.method,
        "path": call.path,
        "query": dict(call.query),
        "headers": headers,
        "body": body,
        "status": status,
        "fault": fault,
    }


def _shown(name: str, value: str) -> str:
    if name not in {"authorization", "x-api-key", "private-token"}:
        return value
    scheme = value.partition(" ")[0] + " " if " " in value else ""
    return f"{scheme}sha256:{hashlib.sha256(value.encode()).hexdigest()[:12]}"
