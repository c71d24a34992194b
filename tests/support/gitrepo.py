"""Real Git repositories for tests, also such as no Git client would make (crafted trees)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ENV = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "HOME": "/nonexistent",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


class GitRepo:
    """A bare repository that is written by objects: no work tree, so any file name and mode can be committed."""

    def __init__(self, path: Path, branch: str = "main") -> None:
        self.path = Path(path)
        self.branch = branch
        if not (self.path / "HEAD").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["git", "init", "-q", "--bare", f"--initial-branch={branch}", str(self.path)], check=True, env=_ENV)
            self.git("config", "http.receivepack", "false")
            self.git("config", "uploadpack.allowAnySHA1InWant", "false")

    def git(self, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
        """Run Git in the repository and return its output; fails loudly."""
        done = subprocess.run(
            ["git", "-c", "gc.auto=0", *args],
            input=stdin,
            capture_output=True,
            check=False,
            env={**_ENV, "GIT_DIR": str(self.path), **(env or {})},
        )
        assert done.returncode == 0, f"git {args}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    @property
    def head(self) -> str:
        """The branch's commit."""
        return self.git("rev-parse", f"refs/heads/{self.branch}")

    def commit(
        self, files: dict[str, str | bytes | None], message: str = "change", *, branch: str | None = None, orphan: bool = False
    ) -> str:
        """Write ``files`` over the branch's tree (None removes) and return the new commit; ``orphan`` starts history anew."""
        ref = f"refs/heads/{branch or self.branch}"
        exists = (
            subprocess.run(
                ["git", "rev-parse", "-q", "--verify", ref],
                env={**_ENV, "GIT_DIR": str(self.path)},
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )
        stream = [f"commit {ref}\ncommitter Ada <ada@example.com> now\ndata {len(message.encode())}\n{message}\n".encode()]
        if exists and not orphan:
            stream.append(f"from {ref}^0\n".encode())
        if orphan and exists:
            self.git("update-ref", "-d", ref)
        for name, content in files.items():
            if content is None:
                stream.append(f"D {_quoted(name)}\n".encode())
                continue
            data = content.encode() if isinstance(content, str) else content
            stream.append(f"M 100644 inline {_quoted(name)}\ndata {len(data)}\n".encode() + data + b"\n")
        self.git("fast-import", "--quiet", "--force", "--date-format=now", stdin=b"".join(stream))
        return self.git("rev-parse", ref)

    def blob(self, data: bytes) -> str:
        """Store a blob and return its id."""
        return self.git("hash-object", "-w", "--stdin", stdin=data)

    def tree(self, entries: list[tuple[str, str, str]]) -> str:
        """Store a tree of (mode, name, id) exactly as given, whatever Git thinks of it, and return its id."""
        raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw)

    def commit_tree(self, tree: str, message: str = "crafted", *, env: dict[str, str] | None = None, sign: str = "") -> str:
        """Make the branch a commit of ``tree`` (signed with an SSH key file if named) and return its id."""
        parents = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{self.branch}").split()
        options = [word for parent in parents for word in ("-p", parent)]
        config = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={sign}"] if sign else []
        sha = self.git(*config, "commit-tree", tree, *options, *(["-S"] if sign else []), "-m", message, env=env)
        self.git("update-ref", f"refs/heads/{self.branch}", sha)
        return sha


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
