"""The floor of reading a revision: every blob of HEAD through one ``git cat-file --batch``."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def read_all(repository: Path) -> tuple[float, int]:
    """Return seconds and the number of blobs."""
    began = time.perf_counter()
    tree = subprocess.run(["git", "ls-tree", "-r", "-z", "HEAD"], cwd=repository, check=True, capture_output=True).stdout
    ids = [row.split(None, 3)[2] for row in tree.split(b"\0") if row]
    batch = subprocess.run(
        ["git", "cat-file", "--batch", "--buffer"],
        cwd=repository,
        input=b"\n".join(ids) + b"\n",
        check=True,
        capture_output=True,
    )
    at, blobs = 0, []
    for _ in ids:
        end = batch.stdout.index(b"\n", at)
        size = int(batch.stdout[at:end].rsplit(b" ", 1)[1])
        blobs.append(batch.stdout[end + 1 : end + 1 + size])
        at = end + size + 2
    return time.perf_counter() - began, len(blobs)
