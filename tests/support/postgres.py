"""A PostgreSQL server of our own for a test session: Debian's binaries, a temporary cluster, a free port, fsync off."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


class Postgres:
    """A running server; `database` makes an empty one. Fails with the package's name when Debian's server is not installed."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert found, "PostgreSQL's server is not installed: apt-get install --no-install-recommends postgresql"
        self.programs = self._bin = found[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="reconciler-pg-", dir="/tmp"))
        self._as_user: dict[str, int] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = pwd.getpwnam("postgres")
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._run("initdb", "-D", str(self._folder / "data"), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        self._server = self._start()
        self._count = 0

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(self._bin / program), *arguments]
        return subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
            **self._as_user,
        ).stdout

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            str(self._bin / "postgres"),
            "-D",
            str(self._folder / "data"),
            "-p",
            str(self.port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            "-k",
            str(self._folder),
            "-c",
            "max_connections=50",
        ]
        server = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env={"LC_ALL": "C.UTF-8"}, **self._as_user
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self._execute("SELECT 1")
                return server
            except Exception:
                assert server.poll() is None, "PostgreSQL ended at once"
                time.sleep(0.1)
        raise AssertionError("PostgreSQL did not answer within 30 s")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)

    def database(self) -> str:
        """Return the URL of a new, empty database."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        self._execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def load(self, url: str, dump: Path) -> None:
        """Run the SQL of ``dump`` (of pg_dump) in the database of ``url``; the first error ends it."""
        address = url.replace("postgresql+psycopg", "postgresql")
        command = [str(self._bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", address]
        with dump.open("rb") as text:
            done = subprocess.run(command, stdin=text, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()

    def schema(self, url: str) -> str:
        """Return the statements that make the schema of a database: tables, columns in their order, indexes, triggers, functions."""
        dumped = self._run("pg_dump", "--schema-only", "--dbname", url.replace("+psycopg", ""))
        return "".join(line for line in dumped.splitlines(keepends=True) if not line.startswith("\\"))

    def restart(self, *, away_s: float = 0.0) -> None:
        """End the server at once, as a crash does, and start it again after ``away_s`` seconds."""
        self._server.send_signal(signal.SIGQUIT)  # immediate shutdown
        self._server.wait(timeout=30)
        time.sleep(away_s)
        self._server = self._start()

    def stop(self) -> None:
        """Stop the server and remove its cluster."""
        self._server.send_signal(signal.SIGINT)  # fast shutdown: whoever is still connected is sent away
        self._server.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)
