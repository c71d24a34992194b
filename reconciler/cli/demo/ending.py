"""What the demo prints at its end: where everything is, how to log in, and what to try."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
import time
from pathlib import Path

from reconciler.cli.demo.events import Traffic
from reconciler.cli.demo.script import wait_for
from reconciler.cli.demo.world import DemoWorld
from reconciler.cli.sink import flush, out

COMMANDS = (
    ("status", "every resource, the broken ones first"),
    ("executions", "what ran, what waits, and why"),
    ("history", "who changed what, and by which commit"),
    ("explain EventSource/shop", "why it is as it is"),
)


def program(*, absolute: bool = False) -> str:
    """Return the command that starts the program, for a shell in this folder, or with ``absolute`` in any."""
    command = "reconciler" if shutil.which("reconciler") else f"{Path(sys.executable).parent}/reconciler"
    if not absolute and Path(command).is_relative_to(Path.cwd()):
        command = str(Path(command).relative_to(Path.cwd()))
    return shlex.quote(command)


def next_steps() -> None:
    """Print what to do after the demo."""
    command = program()
    out("")
    out("What to do next:")
    for name, text in (
        (f"{command} demo --keep", "keep everything running: look at the dashboard, and try commands"),
        (f"{command} init integrations", "create a repository of manifests of your own"),
        ("docs/tutorial.md", "learn to use it in an hour, with a simulated GitHub"),
        ("README.md", "install it with pipx or uv, and find the other pages"),
    ):
        out(f"  {name}")
        out(f"      {text}")


def stay(world: DemoWorld) -> None:
    """Keep everything running until Ctrl-C. The tokens are shown here and nowhere else: the daemon has their hashes."""
    world.start_daemon()
    wait_for("all resources Ready after the restart", world.all_ready)
    world.finish_deployments()
    traffic = Traffic(world)
    traffic.push()
    item = wait_for("a deployment that waits", lambda: traffic.waiting("deploy"))
    out("")
    out(f"Everything keeps running in {world.folder}")
    out("Stop it with Ctrl-C.")
    out("")
    out(f"  dashboard  {world.receiver}/")
    out("")
    out("Log in with a token. They are new in every demo, and are not stored:")
    out("")
    for person in world.people.values():
        out(f"  {person.name:5} {person.token}  {person.role}: {person.may}")
    out("")
    out("A deployment waits for an approval. Log in as ada to approve it:")
    out("")
    out(f"  {world.receiver}/executions/{item.id}")
    out("")
    out("In another terminal:")
    out("")
    out(f"  cd {shlex.quote(str(world.folder))}")
    for command, text in COMMANDS:
        out(f"  {program(absolute=True)} {command}")
        out(f"      {text}")
    out("")
    out(f"  file       {world.status_file}")
    out(f"  receiver   {world.receiver}")
    out(f"  manifests  {world.repository.work}")
    for name, server in world.providers.items():
        out(f"  {name:10} {server.url}")
    flush()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1.0)  # a signal that another thread gets does not end a longer one
