"""The demo's steps with events and stages: a push becomes a deployment; nothing is lost or done twice, and no forgery is accepted."""

from __future__ import annotations

from reconciler.cli.demo.events import Traffic
from reconciler.cli.demo.people import visiting
from reconciler.cli.demo.script import Script, expect, wait_for
from reconciler.cli.demo.shapes import ListedDelivery
from reconciler.cli.demo.world import DemoWorld
from reconciler.model.views import ApprovedItem, ExecutionDetail, ExecutionView, ItemView, LogView, SweptList

STATUSES = ["queued", "in_progress", "success"]
SUPERSEDED = "inactive"
"""GitHub adds it to the previous deployment when the next one to the environment succeeds."""
FORGED = {"X-Hub-Signature-256": "sha256=" + "0" * 64, "X-GitHub-Delivery": "00000000-0000-4000-8000-000000000000"}


class Stages:
    """Plays the steps in order. The daemon must run, and all resources must be Ready."""

    def __init__(self, world: DemoWorld, script: Script) -> None:
        self._world = world
        self._script = script
        self._traffic = Traffic(world)
        self._lost = ""
        self._approved = ""

    def play(self) -> None:
        """Turn a push into a deployment; forged and replayed deliveries change nothing."""
        self._script.part("A push becomes a deployment")
        delivery = self._build()
        self._approved_on_page()
        self._deploy()
        self._refuse(delivery)

    def lose(self) -> None:
        """Push, and lose the delivery. Recovery finds it later, when it cannot be under way any more."""
        with self._script.step("a push to acme/web, whose delivery GitHub loses") as notes:
            self._lost = self._traffic.push(lost=True)
            delivery = self._traffic.deliveries(self._lost)[0]
            expect(delivery.status_code == 502, f"the delivery was not lost: {delivery.status}")
            expect(not self._traffic.events(delivery.guid), "the daemon received it")
            notes.add(f"{self._lost[:8]}; GitHub lists it as: {delivery.status}")

    def recover(self) -> None:
        """Find the lost delivery, and continue after the daemon was killed."""
        self._script.part("A lost delivery, and a kill -9")
        self._sweep()
        self._crash()

    def _build(self) -> ListedDelivery:
        text = "a signed push to acme/web starts the workflow at GitHub"
        with self._script.step(text, "reconciler events --source shop") as notes:
            sha = self._traffic.push()
            delivery = wait_for("the delivery at GitHub", lambda: self._traffic.deliveries(sha))[0]
            expect(delivery.status_code in range(200, 300), f"the delivery was refused: {delivery.status}")
            run = wait_for("a run of stage build", lambda: [run for run in self._traffic.executions("build") if run.url])[0]
            expect(self._traffic.workflow_runs() == 1, "not exactly one run at GitHub")
            notes.add(f"{sha[:8]}, {run.url}")
        text = "it passes, and the deployment waits for an approval"
        with self._script.step(text, "reconciler executions") as notes:
            item = wait_for("an item of stage deploy", lambda: self._traffic.waiting("deploy"))
            expect(item.reason == "approval", f"it waits for {item.reason}")
            expect(not self._traffic.pipelines(), "Semaphore runs before the approval")
            wait_for("both statuses of the commit", lambda: self._traffic.commit_statuses(sha) == ["pending", "success"])
            notes.add(f"{item.id}: {item.message}, version {item.inputs['version']}", "commit status: pending, then success")
        return delivery

    def _approved_on_page(self) -> None:
        """Approve with the dashboard's form. Only the role allows it, and the audit log names the person."""
        item, (vera, ada) = self._item(), (self._world.people[name] for name in ("vera", "ada"))
        place, fields = f"/executions/{item.id}", {"id": item.id, "digest": item.digest}
        text = f"{vera.name}, a {vera.role}, logs in at the dashboard: she cannot approve"
        with self._script.step(text) as notes, visiting(self._world.receiver, vera) as visit:
            expect("/actions/approve" not in visit.page(place), "the page has a button for her")
            status = visit.press("approve", place, **fields)
            expect(status == 403, f"her form was answered with {status}")
            notes.add("the page has no button, and her form gets a 403")
        text = f"{ada.name}, an {ada.role}, approves it there: the audit log names her"
        with self._script.step(text, f"reconciler approve {item.id}", "reconciler history") as notes:
            with visiting(self._world.receiver, ada) as visit:
                expect("/actions/approve" in visit.page(place), "the page has no button for her")
                status = visit.press("approve", place, **fields)
                expect(status == 303, f"her form was answered with {status}")
                row = wait_for("the approval in the audit log", lambda: visit.audited(ada.name, "approve"))
            notes.add(f"/audit: {row}")
        self._approved = item.id

    def _deploy(self) -> None:
        item = self._approved
        with self._script.step("Semaphore deploys, and its log is shown while it runs", f"reconciler logs {item}") as notes:
            run = wait_for("a run at Semaphore", lambda: self._running(item))
            log = wait_for("lines of its log", lambda: self._log(run.id))
            expect(not log.complete, "the log is complete before the run has ended")
            notes.add(f"workflow {run.external_id}")
            notes.quote(*log.lines)
        with self._script.step("GitHub Deployment: queued, in_progress, success, each once") as notes:
            self._traffic.finish(self._traffic.pipelines()[0])
            wait_for("the end of the run", lambda: self._passed(item))
            self._deployed([STATUSES])
            log = wait_for("the whole log", lambda: self._log(run.id, complete=True))
            notes.add(f"the log ends with: {log.lines[-1]}")

    def _refuse(self, delivery: ListedDelivery) -> None:
        with self._script.step("a forged delivery: rejected with 401, nothing is stored") as notes:
            status = self._traffic.deliver(delivery, **FORGED)
            expect(status == 401, f"it was answered with {status}")
            expect(not self._traffic.events(FORGED["X-GitHub-Delivery"]), "an event was stored")
            notes.add(f"at {delivery.url.partition('?')[0]}")
        with self._script.step("the delivery replayed, and redelivered: without a second effect") as notes:
            status = self._traffic.deliver(delivery)
            expect(status in range(200, 300), f"the replay was answered with {status}")
            self._traffic.redeliver_by_hand(delivery)
            again = wait_for("the redelivery at GitHub", lambda: self._traffic.deliveries(delivery.commit)[1:])[0]
            expect(again.status_code in range(200, 300), f"the redelivery was answered with {again.status}")
            expect(len(self._traffic.events(delivery.guid)) == 1, "there is a second event")
            self._count(1)
            notes.add(f"{delivery.guid}: 3 deliveries, 1 event, 1 run")

    def _sweep(self) -> None:
        text = "recovery finds the lost delivery, and its workflow runs"
        with self._script.step(text, "reconciler redeliver") as notes:
            run = wait_for("a second run of stage build", self._recovered, every_s=0.5)
            item = self._traffic.ask("execution", ExecutionDetail, id=run.id).item
            expect(item.inputs["sha"] == self._lost, f"it runs for {item.inputs['sha']}")
            wait_for("its deployment waits", lambda: self._traffic.waiting("deploy"))
            self._count(2, 1)
            again = self._traffic.deliveries(self._lost)[1:]
            expect([row.status_code for row in again] == [202], f"GitHub's list has {again}")
            notes.add(f"{self._lost[:8]}: {again[0].guid} sent again")

    def _crash(self) -> None:
        with self._script.step("approved, then kill -9 while Semaphore deploys") as notes:
            waiting = self._item()
            self._traffic.ask("approve", ApprovedItem, id=waiting.id, digest=waiting.digest)
            item = waiting.id
            pipeline = wait_for("a second run at Semaphore", lambda: self._traffic.pipelines()[1:])[0]
            self._world.kill_daemon()
            notes.add(f"workflow {pipeline.wf_id}")
        with self._script.step("the restarted daemon continues: exactly one run at Semaphore") as notes:
            self._world.start_daemon()
            run = wait_for("the run", lambda: self._running(item))
            expect(run.external_id == pipeline.wf_id, f"it reads {run.external_id}")
            self._traffic.finish(pipeline)
            wait_for("the end of the run", lambda: self._passed(item))
            self._deployed([[*STATUSES, SUPERSEDED], STATUSES])
            self._count(2)
            wait_for("all resources Ready", self._world.all_ready)
            notes.add("2 pushes, 2 workflow runs, 2 deployments")

    # -- shared -----------------------------------------------------------------------------------------------------

    def _item(self) -> ItemView:
        return wait_for("an item of stage deploy", lambda: self._traffic.waiting("deploy"))

    def _running(self, item: str) -> ExecutionView | None:
        run = self._traffic.execution(item)
        return run if run is not None and run.state == "running" and run.external_id else None

    def _passed(self, item: str) -> bool:
        run = self._traffic.execution(item)
        if run is None or run.state != "finished":
            return False
        expect(run.result == "passed", f"it {run.result}: {run.message}")
        return True

    def _log(self, execution: str, *, complete: bool = False) -> LogView | None:
        log = self._traffic.ask("logs", LogView, id=execution)
        return log if log.lines and (log.complete or not complete) else None

    def _recovered(self) -> ExecutionView | None:
        """Recover now; the daemon does so at every interval. A young delivery may be under way, and is not recovered yet."""
        self._traffic.ask("redeliver", SweptList, since=3600)
        return next(iter(self._traffic.executions("build")[1:]), None)

    def _deployed(self, expected: list[list[str]]) -> None:
        """Wait for the last status of the newest GitHub Deployment, and compare the statuses of all."""

        def ended() -> bool:
            statuses = self._traffic.deployments()
            return len(statuses) >= len(expected) and statuses[len(expected) - 1][-1:] == STATUSES[-1:]

        wait_for("the last status of the GitHub Deployment", ended)
        statuses = self._traffic.deployments()
        expect(statuses == expected, f"the statuses are {statuses}")

    def _count(self, workflow_runs: int, pipelines: int | None = None) -> None:
        """Compare the number of runs that were ever started at the providers; by default it is the same at both."""
        runs = self._traffic.workflow_runs(), len(self._traffic.pipelines())
        expected = workflow_runs, workflow_runs if pipelines is None else pipelines
        expect(
            runs == expected, f"{runs[0]} runs at GitHub and {runs[1]} at Semaphore instead of {expected[0]} and {expected[1]}"
        )
