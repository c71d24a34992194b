"""Other releases of the program, run by the tests' own Python: the previous one from the history, and a next one with further migrations."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from reconciler.state.migrate import HEAD

ROOT = Path(__file__).parents[2]
PREVIOUS = "036ec59"
"""The release before this one; set it at each release (CONTRIBUTING.md)."""


def previous(folder: Path) -> Path:
    """Extract the previous release and return the folder for PYTHONPATH. Fails in a clone without its commit."""
    done = subprocess.run(["git", "-C", str(ROOT), "archive", PREVIOUS, "reconciler", "schemas", "examples"], capture_output=True)
    assert done.returncode == 0, (
        f"the previous release, {PREVIOUS}, is not in this clone: run `git fetch --unshallow`\n{done.stderr.decode()}"
    )
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def following(folder: Path, *, breaking: bool) -> Path:
    """Copy this program, add a migration, and return the folder for PYTHONPATH."""
    for part in ("reconciler", "schemas", "examples"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    migrate = folder / "reconciler" / "state" / "migrate.py"
    migrate.write_text(migrate.read_text().replace(f'HEAD = "{HEAD}"', 'HEAD = "9001"'))
    (folder / "reconciler" / "state" / "migrations" / "versions" / "v9001_next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f'revision = "9001"\ndown_revision = "{HEAD}"\nbreaks_older = {breaking}\n\n\n'
        "def upgrade() -> None:\n"
        '    op.add_column("event", sa.Column("next", sa.String(20), nullable=False, server_default=""))\n'
        '    op.create_table("next", sa.Column("id", sa.Integer(), primary_key=True))\n'
    )
    version = folder / "reconciler" / "__init__.py"
    version.write_text(version.read_text().rsplit("__version__", 1)[0] + '__version__ = "9.0.0"\n')
    return folder
