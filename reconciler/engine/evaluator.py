"""A worker process that evaluates expressions over foreign events, with limits of time and memory that protect the daemon.

The worker has no secrets: nothing of this process's memory, an environment of a few names, no file but its pipes. It is started by
the first call, ends with this process (its pipe is closed, and the kernel kills it), and is replaced after it died.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec
import orjson

from reconciler.model.errors import ReconcilerError

CPU_S = 2.0
"""Processor time for one part of a call (a filter, a mapping)."""
WALL_S = 30.0
"""Elapsed time for one part: for a worker that was stopped or starved."""
MEMORY_BYTES = 512 << 20
MAX_ANSWER_BYTES = 256 << 20
EXIT_MEMORY = 71
PROGRESS = struct.Struct("<II")
"""Current job and part of the worker, in shared memory, since a killed process cannot report them."""
_NOT_BEGUN = 0xFFFFFFFF
_HEAD = struct.Struct("<Q")
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TZDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


class EvaluatorFailed(ReconcilerError):
    """The worker cannot be started, or ended before its first job: no event is at fault."""

    code = "RC6060"


class Overrun(Exception):
    """The worker died, or was killed, at a part of a job."""

    def __init__(self, why: str, job: int, part: int) -> None:
        super().__init__(why)
        self.why = why
        self.job = job
        self.part = part


def write_frame(file: IO[bytes], parts: Sequence[bytes]) -> None:
    """Write a message: the sizes of its parts, and the parts."""
    sizes = orjson.dumps([len(part) for part in parts])
    file.write(_HEAD.pack(len(sizes)) + sizes)
    for part in parts:
        file.write(part)
    file.flush()


def read_frame(file: IO[bytes]) -> list[bytes]:
    """Return the parts of the next message; raises `EOFError`."""
    size: int = _HEAD.unpack(_exactly(file, _HEAD.size))[0]
    return [_exactly(file, part) for part in msgspec.json.decode(_exactly(file, size), type=list[int])]


def _exactly(file: IO[bytes], size: int) -> bytes:
    if size > MAX_ANSWER_BYTES:
        raise EOFError
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


class _Worker:
    """One process. Used by one thread."""

    def __init__(self, module: str) -> None:
        shared = os.memfd_create("progress")
        try:
            os.ftruncate(shared, PROGRESS.size)
            self._progress = mmap.mmap(shared, PROGRESS.size)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(shared,),
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,  # Ctrl-C goes to the daemon, which ends the worker
            )
        finally:
            os.close(shared)
        self.loaded: object = None
        """The message that the worker has kept."""

    def call(self, parts: Sequence[bytes]) -> list[bytes]:
        """Return the answer; raises `Overrun`, `EvaluatorFailed`. The worker reads a whole message before it answers."""
        self._progress[:] = PROGRESS.pack(_NOT_BEGUN, 0)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018, S101 - both are pipes
        try:
            write_frame(stdin, parts)
            self._wait(stdout)
            return read_frame(stdout)
        except (OSError, EOFError):
            raise self._ended() from None

    def _wait(self, stdout: IO[bytes]) -> None:
        """Wait for the answer while the worker makes progress."""
        at, since = self._at(), time.monotonic()
        while not select.select([stdout], [], [], 1.0)[0]:
            now = self._at()
            if now != at:
                at, since = now, time.monotonic()
            elif time.monotonic() - since > WALL_S:
                self._process.kill()

    def _at(self) -> tuple[int, int]:
        progress: tuple[int, int] = PROGRESS.unpack(self._progress[:])
        return progress

    def _ended(self) -> Overrun | EvaluatorFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        why = {
            EXIT_MEMORY: f"it needs more than {MEMORY_BYTES >> 20} MiB of memory",
            -27: f"it takes more than {CPU_S:g} s of processor time",  # SIGPROF
            -9: "its process was killed: too little memory, or too long",
            None: "its process does not answer",
        }.get(code, f"its process ended with {code}")
        job, part = self._at()
        return Overrun(why, job, part) if job != _NOT_BEGUN else EvaluatorFailed(f"the worker for expressions failed: {why}")

    def kill(self) -> None:
        """End the process."""
        self._process.kill()

    def close(self) -> None:
        """End the process and release its resources."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        self._progress.close()


class Evaluator:
    """The worker of this process: calls one after the other."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluator")
        self._worker: _Worker | None = None
        self._closed = False
        self.overruns = 0

    async def __call__(self, parts: Sequence[bytes], *, keep: tuple[object, Sequence[bytes]] | None = None) -> list[bytes]:
        """Return the worker's answer to ``parts``; raises `Overrun`, `EvaluatorFailed`.

        ``keep``: what the worker must have been given before, and the message that gives it.
        """
        return await asyncio.wrap_future(self._thread.submit(self._call, parts, keep))

    def _call(self, parts: Sequence[bytes], keep: tuple[object, Sequence[bytes]] | None) -> list[bytes]:
        if self._closed:
            raise EvaluatorFailed("this process ends")
        if self._worker is None:
            try:
                self._worker = _Worker(self._module)
            except OSError as error:
                raise EvaluatorFailed(f"the worker for expressions cannot be started: {error.strerror}") from None
        worker = self._worker
        try:
            if keep is not None and worker.loaded is not keep[0]:
                worker.call(keep[1])
                worker.loaded = keep[0]
            answer = worker.call(parts)
        except (Overrun, EvaluatorFailed) as error:
            self.overruns += isinstance(error, Overrun)
            self._replace()
            if self._closed:
                raise EvaluatorFailed("this process ends") from None
            raise
        if answer[0] == b"tired":  # it used much memory: the next call gets a new worker
            self._replace()
        return answer[1:]

    def _replace(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def close(self) -> None:
        """End the worker at once."""
        self._closed = True
        if (worker := self._worker) is not None:
            worker.kill()
        self._thread.submit(self._replace)
        self._thread.shutdown(wait=True)
