"""A refused credential is asked for once a minute: over crashes, over processes, over Integrations; and at once when that helps."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.model.errors import AuthFailed
from reconciler.model.records import CredentialAlert, CredentialRefusal
from reconciler.model.resources import ResourceId
from reconciler.state import Store
from tests.engine.world import OWNER, TOKENS, World
from tests.support.postgres import Postgres

WRONG = "canary-wrong-token-5c1d"


def refused(world: World) -> int:
    return sum(row["status"] == 401 for row in world.requests())


def reason(world: World, name: str = "github") -> str:
    return str((world.condition("Integration", name, "CredentialsValid") or {}).get("reason"))


def events(text: str, name: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [row for row in rows if row.get("event") == name]


def end_pauses(world: World) -> None:
    """Let a minute pass for every refusal in the state."""
    with sqlite3.connect(world.folder / "state" / "state.db", timeout=10) as database:
        database.execute("UPDATE refused_credential SET until = until - 61")


def kill(world: World) -> None:
    process = world.processes[-1]
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_crash_loop_asks_once_a_minute_and_a_person_or_a_new_secret_at_once(world: World) -> None:
    secret = world.folder / "github-token"
    secret.write_text(WRONG)
    secret.chmod(0o600)
    world.extra_env |= {"RECONCILER_SECRET_GITHUB": "", "RECONCILER_SECRET_GITHUB_FILE": str(secret)}
    world.configure(log="{format: json}")
    began = time.time()
    for _ in range(5):
        started = time.time()
        process = world.daemon()
        world.wait(lambda s=started, p=process: world.status().get("daemon", {}).get("pid") == p.pid and reason(world) == "Refused"
                   and time.time() - s > 1, "refused")  # fmt: skip
        kill(world)
    asked = refused(world)
    assert 1 <= asked <= 1 + (time.time() - began) // 60  # more than once only on a slow machine
    world.daemon()
    world.wait(lambda: reason(world) == "Refused", "refused")
    end_pauses(world)
    world.wait(lambda: refused(world) == asked + 1, "asked again after a minute", 60)
    time.sleep(5)
    assert refused(world) == asked + 1
    world.cli("reconcile", "Integration/github", "--wait", "--timeout", "20")
    assert refused(world) == asked + 2  # a person asks
    assert len(events(world.log(), "credential_refused")) == 1
    stored = b"".join(path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file())
    assert WRONG.encode() not in stored
    secret.write_text(TOKENS["github"])
    world.wait(world.all_ready, "a new secret is used at once", 40)
    assert refused(world) == asked + 2
    assert len(events(world.log(), "credential_accepted")) == 1
    assert WRONG not in world.log()
    kill(world)
    history = world.cli("history").stdout
    assert "credential_refused" in history
    assert "credential_accepted" in history
    assert world.cli("history", "--verify").returncode == 0


def test_a_kill_before_the_answer_does_not_start_the_minute_anew(world: World) -> None:
    world.extra_env["RECONCILER_SECRET_GITHUB"] = WRONG
    world.daemon()
    world.wait(lambda: reason(world) == "Refused", "refused")
    kill(world)
    asked = refused(world)
    world.servers["github"].admin.fault(times=0, effect="mute")  # the answers never arrive
    end_pauses(world)
    world.daemon()
    world.wait(lambda: len(world.requests()) > asked, "one call", 60)
    kill(world)
    for _ in range(2):
        world.daemon()
        time.sleep(3)
        kill(world)
    assert len(world.requests()) - asked == 1


def test_all_integrations_with_one_secret_ask_once(world: World) -> None:
    world.extra_env["RECONCILER_SECRET_GITHUB"] = WRONG
    for name in ("second", "third"):
        manifest = world.integration("github").replace("name: github}\nspec", f"name: {name}}}\nspec")
        world.write(f"{name}.yaml", manifest.replace("github.com/acme", f"github.com/{name}"))
    world.daemon()
    world.wait(lambda: {reason(world, name) for name in ("github", "second", "third")} == {"Refused"}, "all refused")
    time.sleep(5)
    assert refused(world) <= 3  # all are asked at the first start, together
    end_pauses(world)
    world.wait(lambda: refused(world) >= 4, "asked again")
    time.sleep(5)
    assert refused(world) == 4


def test_fifty_dependents_of_a_dead_credential_are_one_alert(world: World) -> None:
    names = [f"svc-{number:02}" for number in range(50)]
    world.repos(*names)
    for name in names:
        world.source(name)
    world.configure(log="{format: json}")
    world.daemon()
    world.wait(world.all_ready, "ready", 60)
    row = world.servers["github"].admin.state()["tokens"][TOKENS["github"]]
    world.servers["github"].admin.put_state({"tokens": {TOKENS["github"]: None}})
    world.wait(lambda: reason(world) == "Refused", "refused")
    time.sleep(1)
    before = len(world.requests())
    time.sleep(6)
    assert [(row["method"], row["path"]) for row in world.requests()[before:]] == []
    (alert,) = events(world.log(), "credential_refused")
    assert alert["affected"] == 100  # 50 sources and their hooks
    (shown,) = world.status()["credentials"]
    assert {f"EventSource/default/{name}" for name in names} <= {str(each) for each in shown["dependents"]} or len(
        [each for each in shown["dependents"] if "svc-" in each]
    ) == 100
    assert len(events(world.log(), "integration_failed")) == 0
    world.servers["github"].admin.put_state({"tokens": {TOKENS["github"]: row}})
    assert world.cli("reconcile", "Integration/github", "--wait", "--timeout", "30").returncode == 0
    world.wait(world.all_ready, "ready again", 30)
    assert len(events(world.log(), "credential_accepted")) == 1


# -- several processes ----------------------------------------------------------------------------------------------------


class Peer:
    """One of several daemons on a database: a state folder of its own, the same key."""

    def __init__(self, world: World, number: int, url: str) -> None:
        self.world, self.folder = world, world.folder / f"peer{number}"
        self.folder.mkdir()
        (self.folder / "reconciler.yaml").write_text(
            f"owner: {OWNER}\n"
            f'source: {{url: "{world.manifests}", interval: 1s}}\n'
            f'state: {{url: "{url}"}}\n'
            'server: {listen: "127.0.0.1:0", publicUrl: "https://hooks.example"}\n'
            "reconcile: {interval: 2s, settle: 2s, retry: {min: 1s, max: 4s}}\n"
            'network: {allow: ["127.0.0.1"]}\n'
            "status: {file: state/status.json, heartbeat: 1s}\n"
            f'masterKey: {{file: "{world.folder / "master.key"}"}}\n'
            "log: {format: json, level: info}\n"
        )

    def start(self) -> Any:
        import subprocess
        import sys

        with (self.folder / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "reconciler", "run", "--config", str(self.folder / "reconciler.yaml")]
            process = subprocess.Popen(command, env=self.world.env, cwd=self.folder, stdout=log, stderr=log)
        self.world.processes.append(process)
        return process

    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def works(self) -> bool:
        return "pass_finished" in self.log()


def peers_of(world: World, postgres: Postgres) -> tuple[list[Peer], sa.Engine]:
    from reconciler.credentials.keys import make_key

    make_key(world.folder / "master.key")
    url = postgres.database()
    return [Peer(world, number, url) for number in range(3)], sa.create_engine(url)


@pytest.mark.timeout(400)
def test_several_processes_ask_once_a_minute_together_also_when_they_restart(world: World, postgres: Postgres) -> None:
    world.extra_env["RECONCILER_SECRET_GITHUB"] = WRONG
    peers, engine = peers_of(world, postgres)
    for _ in range(2):
        running = [peer.start() for peer in peers]
        world.wait(lambda: refused(world) >= 1 and all(peer.works() for peer in peers), "all work", 150)
        time.sleep(5)
        for process in running:
            process.kill()
            process.wait()
    assert refused(world) == 1
    assert sum(len(events(peer.log(), "credential_refused")) for peer in peers) == 1
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE refused_credential SET until = until - 61"))
    for peer in peers:
        peer.start()
    world.wait(lambda: refused(world) == 2, "asked again", 40)
    time.sleep(6)
    assert refused(world) == 2
    engine.dispose()


@pytest.mark.timeout(400)
def test_the_end_of_a_credential_is_announced_once_by_several_processes(tmp_path: Path, postgres: Postgres) -> None:
    world = World(tmp_path, providers=("gitlab",))
    try:
        peers, engine = peers_of(world, postgres)

        def said(days: int) -> int:
            return sum(row["days"] == days for peer in peers for row in events(peer.log(), "credential_expiring"))

        def passes() -> int:
            return sum(peer.log().count("pass_finished") for peer in peers)

        def ends_in(days: int) -> None:
            end = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400 * days))
            world.servers["gitlab"].admin.put_state({"tokens": {TOKENS["gitlab"]: {"expires_at": end}}})

        ends_in(12)
        running = [peer.start() for peer in peers]
        world.wait(lambda: said(14), "the first warning", 90)
        for process in running:
            process.kill()
            process.wait()
        ends_in(6)
        for peer in peers:
            peer.start()
        world.wait(lambda: said(7), "the second warning", 90)
        ends_in(1)
        world.wait(lambda: said(1), "the last warning", 90)
        before = passes()
        world.wait(lambda: passes() >= before + 3, "more passes, of whichever process", 90)
        assert [said(days) for days in (14, 7, 1)] == [1, 1, 1]
        with engine.connect() as connection:
            audit = connection.execute(sa.text("SELECT payload FROM audit")).scalars().all()
        assert sum(b'"credential_expiring"' in bytes(row) for row in audit) == 3
        engine.dispose()
    finally:
        world.close()


# -- the state ------------------------------------------------------------------------------------------------------------

REFUSAL = CredentialRefusal("GET /user: refused (401)", "RC5011", "hint", 401, "GET /user")
LONG = ResourceId("Integration", "c" * 63, "n" * 63)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Any:
    url = f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else postgres.database()
    made = Store.open(url, state_dir=tmp_path)
    yield made
    made.close()


def test_a_refusal_is_handed_out_until_its_pause_is_over_and_then_to_one_caller(store: Store, monkeypatch: Any) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr(type(store), "now", lambda _self: now[0])
    assert store.refusal_of(["a", "b"], 60.0) is None
    store.refuse_credential("b", REFUSAL, 60.0)
    assert store.refusal_of(["a", "b"], 60.0) == REFUSAL
    assert store.refusal_of(["a"], 60.0) is None
    now[0] += 60.5
    assert store.refusal_of(["a", "b"], 60.0) is None  # the caller may try
    assert store.refusal_of(["a", "b"], 60.0) == REFUSAL  # and nobody else
    now[0] -= 3_600.0
    assert store.refusal_of(["b"], 60.0) is None  # the clock was set back
    store.forget_refusals(["b"])
    assert store.refusal_of(["b"], 60.0) is None
    store.refuse_credential("old", REFUSAL, 60.0)
    now[0] += 90_000.0
    store.refuse_credential("new", REFUSAL, 60.0)
    now[0] -= 90_000.0 - 30.0
    assert store.refusal_of(["old"], 60.0) is None


def test_an_announcement_is_made_by_one_of_two_and_long_names_are_kept(store: Store) -> None:
    nothing, first = store.credential_alert(LONG), CredentialAlert(end="2030-01-01T00:00:00Z", warned=14)
    assert nothing == CredentialAlert()
    assert store.announce(LONG, nothing, first)
    assert not store.announce(LONG, nothing, CredentialAlert(refused=True))
    assert store.credential_alert(LONG) == first
    store.drop_connection(LONG)
    assert store.credential_alert(LONG) == CredentialAlert()


def test_the_parts_of_a_refusal_come_back_as_an_error() -> None:
    error = AuthFailed(REFUSAL.message, status=REFUSAL.status, request=REFUSAL.request, code=REFUSAL.code, hint=REFUSAL.hint)
    assert (error.code, error.status, error.stops_integration) == ("RC5011", 401, True)


def test_what_an_older_version_announced_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.state import migrate

    url = f"sqlite:///{tmp_path}/state.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        monkeypatch.setattr(migrate, "HEAD", "0008")
        migrate.upgrade(connection)
        monkeypatch.undo()
        said = json.dumps({"end": "2030-01-01T00:00:00Z", "refused": False, "warned": 7})
        connection.execute(sa.text("INSERT INTO meta VALUES ('credential.Integration/default/x', :said)"), {"said": said})
    engine.dispose()
    store = Store.open(url, state_dir=tmp_path)
    known = store.credential_alert(ResourceId("Integration", "default", "x"))
    assert known == CredentialAlert(end="2030-01-01T00:00:00Z", warned=7)
    assert store.get_meta("credential.Integration/default/x") is None
    store.close()
