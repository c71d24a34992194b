"""The demo from its first step to its last."""

from __future__ import annotations

import msgspec

from reconciler.cli.demo.alerts import ChatMessages
from reconciler.cli.demo.reviews import PullRequestSteps
from reconciler.cli.demo.script import Script, expect, wait_for
from reconciler.cli.demo.shapes import PlanOutput
from reconciler.cli.demo.stages import Stages
from reconciler.cli.demo.world import DemoWorld


def play(world: DemoWorld, script: Script) -> None:
    """Play all steps. Raises the error of the first one that fails."""
    _prepare(world, script)
    _apply(world, script)
    stages = Stages(world, script)
    stages.play()
    stages.lose()
    _repair(world, script)
    PullRequestSteps(world, script).play()
    _break(world, script)
    ChatMessages(world, script).play()
    stages.recover()
    _finish(world, script)


def _prepare(world: DemoWorld, script: Script) -> None:
    script.part("From a commit to the providers")
    with script.step("sandbox: GitHub, Semaphore, Buddy and Slack, and a Git remote", "reconciler sandbox") as notes:
        world.start_providers()
        notes.add(*(f"{name:9} {server.url}" for name, server in world.providers.items()))
    with script.step("commit the manifests of examples/small-team and push them") as notes:
        notes.add(f"{world.push_example()[:8]} to {world.git_url}")
    with script.step("reconciler validate"):
        done = world.cli("validate", str(world.repository.work))
        expect(done.returncode == 0, f"the example is not valid: {done.stdout.strip()} {done.stderr.strip()}")
    with script.step("reconciler plan: shows all objects to create, writes nothing") as notes:
        done = world.cli("plan", "-o", "json")
        expect(done.returncode == 0, f"plan exited with {done.returncode}: {done.stderr.strip()}")
        planned = msgspec.json.decode(done.stdout, type=PlanOutput)
        changes = [change for plan in planned.plans for change in plan.changes if change.action == "create"]
        expect(len(changes) == world.EXPECTED_OBJECTS, f"{len(changes)} objects planned, {world.EXPECTED_OBJECTS} expected")
        expect(world.writes() == 0, "a plan wrote to a provider")
        notes.add(f"{len(changes)} to create, {planned.sha256[:19]}…")


def _apply(world: DemoWorld, script: Script) -> None:
    with script.step("reconciler run: the daemon starts, fetches and applies", "reconciler status"):
        world.start_daemon()
        wait_for("status file: all resources Ready", world.all_ready)
    with script.step("at the providers: every object is there") as notes:
        for repo in ("payments", "web", "checkout", "search"):
            expect(len(world.hooks(repo)) == 1, f"acme/{repo} has {len(world.hooks(repo))} hooks")
        expect(len(world.org_hooks()) == 1, "the organization hook is missing")
        expect(all(hook.config.secret == "********" for hook in world.hooks("payments")), "a hook without a secret")
        expect(len(world.notifications()) == 1, "the Semaphore notification is missing")
        expect(sorted(world.buddy_integrations()) == ["aws-deploy", "docker-hub"], "the Buddy integrations are missing")
        notes.add("GitHub: a webhook on each of 4 repositories, on the organization, and of the App")
        notes.add("Semaphore: a secret and a notification; Buddy: two integrations")
    with script.step("reconciler plan again: nothing to do"):
        expect(world.cli("plan", "--detailed-exitcode").returncode == 0, "the second plan is not empty")


def _repair(world: DemoWorld, script: Script) -> None:
    script.part("People change things by hand, and the daemon repairs them")
    payments, web = world.hooks("payments")[0], world.hooks("web")[0]
    with script.step("somebody deletes a webhook: the daemon recreates it", "reconciler history") as notes:
        world.delete_hook("payments", payments.id)
        world.edit_hook("web", web.id, {"events": ["push", "issues", "fork"]})
        world.edit_hook("search", world.hooks("search")[0].id, {"active": False})
        world.spoil_notification()
        after = wait_for("a new hook", lambda: [hook for hook in world.hooks("payments") if hook.id != payments.id])
        notes.add(f"acme/payments: hook {payments.id} is now hook {after[0].id}")
    with script.step("somebody edits three others: all are as declared again") as notes:
        wait_for("the events as declared", lambda: world.hooks("web")[0].events == web.events)
        notes.add("acme/web: the events are " + ", ".join(web.events) + " again")
        wait_for("an active hook", lambda: world.hooks("search")[0].active)
        notes.add("acme/search: the disabled webhook is active again")
        wait_for("our endpoint", world.notification_is_ours)
        notes.add("Semaphore: the notification is sent to the daemon again")
    with script.step("reconciler status: all Ready again"):
        wait_for("all resources Ready", world.all_ready)
        expect(world.cli("status", "--exit-code").returncode == 0, "status --exit-code is not 0")


def _break(world: DemoWorld, script: Script) -> None:
    text = "a commit with an error: the last valid specs stay active"
    with script.step(text, "reconciler validate") as notes:
        world.repository.break_sources()
        world.repository.commit("Add a typing mistake")
        problems = wait_for("the problem in the status file", world.problems)
        expect(all(len(world.hooks(repo)) == 1 for repo in ("web", "checkout", "search")), "a hook was deleted")
        notes.add(f"{problems[0].location}: {problems[0].message}")
        world.repository.restore_sources()
        sha = world.repository.commit("Fix it")
        wait_for("the fixed commit applied", lambda: world.applied(sha))


def _finish(world: DemoWorld, script: Script) -> None:
    script.part("At the end")
    text = "reconciler history --verify: the audit log is intact"
    with script.step(text) as notes:
        done = world.cli("history", "--verify")
        expect(done.returncode == 0, "the audit log's chain is broken")
        notes.add(done.stdout.strip())
    with script.step("no secret in the log, the status file or the state folder"):
        expect(not world.leaks(), f"secrets in {', '.join(world.leaks())}")
    with script.step("SIGTERM: the daemon drains and exits with 0") as notes:
        code = world.stop_daemon()
        expect(code == 0, f"it exited with {code}")
        notes.add(f"{world.requests()} provider requests in total")
