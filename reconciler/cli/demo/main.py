"""``demo``: a guided demonstration on this machine with Git over HTTP, provider simulators and a daemon process.

Every step is verified at the provider, as a user would see it, and printed with its time. The exit code is 0 only if every
step succeeded.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from reconciler.cli.demo.script import Script, expect, wait_for
from reconciler.cli.demo.shapes import PlanOutput
from reconciler.cli.demo.stages import Stages
from reconciler.cli.demo.world import DemoWorld
from reconciler.cli.options import DemoOptions
from reconciler.cli.output import say
from reconciler.cli.sink import out
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK


def demo(options: DemoOptions) -> int:
    """Run the demo; with --keep the sandbox and the daemon stay until Ctrl-C."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        folder = (
            Path(options.dir)
            if options.dir
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-demo-")))
        )
        folder.mkdir(parents=True, exist_ok=True)
        world = stack.enter_context(DemoWorld(folder.resolve()))
        script = Script()
        try:
            _play(world, script)
        except Exception as error:  # noqa: BLE001  shown with the log
            say("")
            say(f"the demo failed: {error}")
            world.show_log()
            return EXIT_ERROR
        out("")
        out(f"all steps verified in {script.total():.1f} s")
        if options.keep:
            _keep(world)
        else:
            _next_steps()
        return EXIT_OK


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise `SystemExit` on SIGTERM and SIGHUP, so that the daemon and the simulators end, too."""

    def leave(number: int, _frame: object) -> None:
        for other in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
        raise SystemExit(128 + number)

    handled = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]  # nohup(1)
    before = {number: signal.signal(number, leave) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _play(world: DemoWorld, script: Script) -> None:
    _prepare(world, script)
    _apply(world, script)
    stages = Stages(world, script)
    stages.play()
    stages.lose()
    _repair(world, script)
    _prune(world, script)
    stages.recover()
    _finish(world, script)


def _prepare(world: DemoWorld, script: Script) -> None:
    with script.step("sandbox: GitHub, Semaphore and Buddy as HTTP servers, and a Git remote") as notes:
        world.start_providers()
        notes.append(", ".join(f"{name} {server.url}" for name, server in world.providers.items()))
    with script.step("commit the manifests of examples/small-team and push them") as notes:
        notes.append(f"{world.push_example()[:8]} to {world.git_url}")
    with script.step("reconciler validate"):
        expect(world.cli("validate", str(world.work)).returncode == 0, "the example is not valid")
    with script.step("reconciler plan: shows all objects to create, writes nothing") as notes:
        planned = msgspec.json.decode(world.cli("plan", "-o", "json").stdout, type=PlanOutput)
        creates = [change for plan in planned.plans for change in plan.changes if change.action == "create"]
        expect(len(creates) == world.EXPECTED_OBJECTS, f"{len(creates)} creates planned, {world.EXPECTED_OBJECTS} expected")
        expect(world.writes() == 0, "a plan wrote to a provider")
        notes.append(f"{len(creates)} to create, {planned.sha256[:19]}…")


def _apply(world: DemoWorld, script: Script) -> None:
    with script.step("reconciler run: the daemon starts, fetches and applies"):
        world.start_daemon()
        wait_for("status file: all resources Ready", world.all_ready)
    with script.step("at the providers: one webhook per repository, a secret, a notification, two integrations") as notes:
        for repo in ("payments", "web", "checkout", "search"):
            expect(len(world.hooks(repo)) == 1, f"acme/{repo} has {len(world.hooks(repo))} hooks")
        expect(len(world.org_hooks()) == 1, "the organization hook is missing")
        expect(all(hook.config.secret == "********" for hook in world.hooks("payments")), "a hook without a secret")
        expect(len(world.notifications()) == 1, "the Semaphore notification is missing")
        expect(sorted(world.buddy_integrations()) == ["aws-deploy", "docker-hub"], "the Buddy integrations are missing")
        notes.append(f"{world.writes()} writes")
    with script.step("reconciler plan again: nothing to do"):
        expect(world.cli("plan", "--detailed-exitcode").returncode == 0, "the second plan is not empty")


def _repair(world: DemoWorld, script: Script) -> None:
    with script.step("somebody deletes the webhook of acme/payments: the daemon recreates it") as notes:
        before = world.hooks("payments")[0].id
        world.delete_hook("payments", before)
        after = wait_for("a new hook", lambda: [hook for hook in world.hooks("payments") if hook.id != before])
        notes.append(f"hook {before} → {after[0].id}")
    with script.step("somebody edits the events of acme/web: the daemon restores them") as notes:
        hook = world.hooks("web")[0]
        world.edit_hook("web", hook.id, {"events": ["push", "issues", "fork"]})
        wait_for("the events as declared", lambda: world.hooks("web")[0].events == hook.events)
        notes.append("back to " + ", ".join(hook.events))
    with script.step("somebody disables the webhook of acme/search: the daemon enables it"):
        hook = world.hooks("search")[0]
        world.edit_hook("search", hook.id, {"active": False})
        wait_for("an active hook", lambda: world.hooks("search")[0].active)
    with script.step("somebody edits the Semaphore notification: the daemon restores it"):
        world.spoil_notification()
        wait_for("our endpoint", world.notification_is_ours)
    with script.step("reconciler status: all Ready again"):
        wait_for("all resources Ready", world.all_ready)
        expect(world.cli("status", "--exit-code").returncode == 0, "status --exit-code is not 0")


def _prune(world: DemoWorld, script: Script) -> None:
    with script.step("a commit removes a manifest: the daemon deletes its webhook") as notes:
        sha = world.remove_source("payments")
        wait_for("no hook on acme/payments", lambda: not world.hooks("payments"))
        wait_for("the commit applied", lambda: world.applied(sha))
        notes.append(f"{sha[:8]}")
    with script.step("a commit with an error: nothing is deleted, the last valid specs stay active"):
        sha = world.break_source("web")
        wait_for(
            "the problem in the status file",
            lambda: any("web" in row.message or "sources" in row.location for row in world.problems()),
        )
        expect(
            all(len(world.hooks(repo)) == 1 for repo in ("web", "checkout", "search")), "a hook was deleted for a broken manifest"
        )
        sha = world.fix_source("web")
        wait_for("the fixed commit applied", lambda: world.applied(sha))


def _finish(world: DemoWorld, script: Script) -> None:
    with script.step("reconciler history --verify: every write is in the audit log, and its hash chain is intact") as notes:
        done = world.cli("history", "--verify")
        expect(done.returncode == 0, "the audit log's chain is broken")
        notes.append(done.stdout.strip())
    with script.step("no secret in the log, the status file or the state folder"):
        expect(not world.leaks(), f"found in {', '.join(world.leaks())}")
    with script.step("SIGTERM: the daemon drains and exits with 0") as notes:
        code = world.stop_daemon()
        expect(code == 0, f"it exited with {code}")
        notes.append(f"{world.requests()} provider requests in total")


def _next_steps() -> None:
    """Print what to do after the demo, with the command that starts the program here."""
    command = "reconciler" if shutil.which("reconciler") else f"{Path(sys.executable).parent}/reconciler"
    if Path(command).is_relative_to(Path.cwd()):
        command = str(Path(command).relative_to(Path.cwd()))
    out("")
    out("What to do next:")
    out(f"  {command} demo --keep")
    out("      keep everything running, and look around with the printed commands")
    out(f"  {command} init integrations")
    out("      create a repository of manifests of your own")
    out("  docs/tutorial.md")
    out("      learn to use it in an hour, with a simulated GitHub")
    out("  README.md")
    out("      install it with pipx or uv, and find the other pages")


def _keep(world: DemoWorld) -> None:
    world.start_daemon()
    out("")
    out(f"running in {world.folder}; stop with Ctrl-C")
    out(f"  status     reconciler status --config {world.config}")
    out(f"  file       {world.status_file}")
    out(f"  dashboard  {world.receiver}/")
    out(f"  receiver   {world.receiver}")
    for name, server in world.providers.items():
        out(f"  {name:10} {server.url}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
