"""Runs Git. No other module of the source does.

Programs and options are constants. Input is a checked ref name, a checked URL after ``--end-of-options``, or comes on standard input.
Git sees neither the environment nor the configuration of the machine and its user. Credentials are passed in ``GIT_CONFIG_*``
variables: not in arguments, which ``ps`` shows, nor in URLs or files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.model.errors import SourceError
from reconciler.source.errors import SourceTimeout, SourceTooLarge

_LEGACY = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
"""Malformed dates, names and modes of old tools. They are harmless, and histories that contain them are never rewritten. Checks of
names in trees, `.git`, `..`, links and submodules stay on."""
_HARMLESS = tuple(part for name in _LEGACY for part in ("-c", f"fetch.fsck.{name}=ignore"))
_CONSTANTS = (
    "--no-pager",
    "--no-replace-objects",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "http.lowSpeedLimit=1000",
    "-c",
    "http.lowSpeedTime=30",
    "-c",
    "http.followRedirects=false",
    "-c",
    "transfer.fsckObjects=true",
    "-c",
    "fetch.fsckObjects=true",
    *_HARMLESS,
    "-c",
    "fetch.unpackLimit=1",  # always a pack: a killed fetch leaves one temporary file, not thousands of objects
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "credential.helper=",
    "-c",
    "gc.auto=0",  # a detached gc would outlive the deadline
    "-c",
    "maintenance.auto=false",
    "-c",
    "submodule.recurse=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "core.compression=1",
)
_CHUNK_BYTES = 1 << 16
_STDERR_BYTES = 1 << 16
_GUARD_EVERY_S = 0.2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class GitResult:
    """The result of one Git process. Users see ``stderr`` only through `reason`."""

    returncode: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as one stripped line of text."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def reason(self) -> str:
        """Git's last ``fatal:`` or ``error:`` line, bounded; lines of the remote (``remote:``) are left out."""
        lines = [
            line for line in self.stderr.splitlines() if line.startswith(("fatal: ", "error: ", "ssh: ", "git@", "Load key"))
        ]
        line = next(
            (line for line in lines if line.startswith("fatal: ")), lines[-1] if lines else f"git ended with {self.returncode}"
        )
        return line.removeprefix("fatal: ").removeprefix("error: ")[:300]


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Options of one process."""

    deadline_s: float = 60.0
    max_stdout_bytes: int = 32 << 20
    stdin: bytes = b""
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More Git configuration, passed in the environment (credentials)."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that are masked in the output of Git."""
    pass_fds: tuple[int, ...] = ()
    guard: Callable[[], None] | None = None
    """Called about five times a second while the process runs. If it raises, the process is killed (disk quota)."""


_DEFAULT = ProcessResult()


@dataclass(frozen=True, slots=True)
class GitRunner:
    """Runs Git in a restricted environment. ``home`` is its HOME; ``protocols`` are those it may use (none: local objects only)."""

    home: Path
    protocols: tuple[str, ...] = ()
    ssh_command: str = field(default="", repr=False)

    async def run(self, git_dir: Path | None, *args: str, run: ProcessResult = _DEFAULT) -> GitResult:
        """Run ``git args`` to its end.

        Raises `SourceTimeout` at the deadline, `SourceTooLarge` beyond ``max_stdout_bytes``, and any error of the guard. In these
        cases, and on cancellation, the whole process group is killed.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *_CONSTANTS,
                *args,
                cwd="/",
                env=self.environment(git_dir, run.config),
                start_new_session=True,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=run.pass_fds,
            )
        except FileNotFoundError:
            raise SourceError("the program git is not installed", hint="Install git 2.39.5 or newer.") from None
        try:
            async with asyncio.timeout(run.deadline_s):
                stdout, stderr = await _talk(process, run)
        except TimeoutError:
            raise SourceTimeout(
                f"git {args[0]} did not end within {run.deadline_s:g} s; it was killed",
                hint="The remote may be overloaded or silent; it is retried automatically.",
            ) from None
        finally:
            await _end(process)
        return GitResult(process.returncode or 0, stdout, _clean(stderr, run.secrets))

    def environment(self, git_dir: Path | None, config: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a Git process. Of this process it contains only ``PATH``."""
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_ALLOW_PROTOCOL": ":".join(self.protocols) or "none",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_SSH_COMMAND": self.ssh_command or "/bin/false",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_CONFIG_COUNT": str(len(config)),
        }
        for index, (key, value) in enumerate(config.items()):
            env[f"GIT_CONFIG_KEY_{index}"], env[f"GIT_CONFIG_VALUE_{index}"] = key, value
        if git_dir is not None:
            env["GIT_DIR"] = str(git_dir)  # no discovery: with a damaged mirror Git must not use a repository around it
        return env


def ssh_command(key_file: Path, known_hosts_file: Path, connect_timeout_s: int = 20) -> str:
    """Return ``GIT_SSH_COMMAND`` with this key and these host keys, without the user's configuration and without prompts."""
    known = str(known_hosts_file).replace("%", "%%")
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known}"',
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": '"' + str(key_file).replace("%", "%%") + '"',
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "ConnectTimeout": str(connect_timeout_s),
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
    }
    return " ".join(
        ["ssh", "-F", "/dev/null", *(part for key, value in options.items() for part in ("-o", shlex.quote(f"{key}={value}")))]
    )


async def _talk(process: asyncio.subprocess.Process, run: ProcessResult) -> tuple[bytes, bytes]:
    out = asyncio.create_task(_read(process.stdout, run.max_stdout_bytes, strict=True))
    err = asyncio.create_task(_read(process.stderr, _STDERR_BYTES))
    work = {out, err, asyncio.create_task(_write(process.stdin, run.stdin)), asyncio.create_task(process.wait())}
    guard = {asyncio.create_task(_watch(run.guard))} if run.guard is not None else set()
    pending: set[asyncio.Task[object]] = {*work, *guard}
    try:
        while pending - guard:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        if run.guard is not None:  # what came in since its last look
            run.guard()
        return out.result(), err.result()
    finally:  # these readers must end before `_end` reads the streams
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _watch(guard: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_GUARD_EVERY_S)
        guard()


async def _read(stream: asyncio.StreamReader | None, limit: int, *, strict: bool = False) -> bytes:
    if stream is None:
        return b""
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK_BYTES):
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif strict:
            raise SourceTooLarge(f"git printed more than {limit >> 20} MiB", hint="Name the manifests' folder in source.path.")
    return b"".join(chunks)


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if data:
            stream.write(data)
            await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the rest of the process group and wait for it. After a normal end there is nothing to do."""
    if process.returncode is not None and all(s is None or s.at_eof() for s in (process.stdout, process.stderr)):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.gather(_read(process.stdout, 0), _read(process.stderr, 0), process.wait())


def _clean(stderr: bytes, secrets: tuple[str, ...]) -> str:
    text = stderr.decode("utf-8", "replace").replace("\r", "\n")
    for secret in secrets:
        text = text.replace(secret, "***")
    return "\n".join(_CONTROL.sub("?", line) for line in text.split("\n"))
