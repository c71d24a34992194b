"""What the pictures of the documentation show: an installation on an ordinary day, with one drift, one blocked set, one approval."""

from __future__ import annotations

from tests.cli.staged import payload, stage
from tests.dashboard.watched import Watched

REPOSITORIES = ("payments", "ledger", "web", "search", "billing", "mail")


class Scene(Watched):
    """A daemon with six repositories and three stages."""

    def play(self) -> None:
        """Start, let things happen, and wait until they show."""
        self.begin()
        for name in ("one", "two"):
            self.remove(name)
        self.repos(*REPOSITORIES)
        for name in REPOSITORIES:
            more = "  lifecycle: {drift: warn}\n" if name == "ledger" else ""
            self.source(name, more=more)
        self.write("staging.yaml", stage("staging"))
        self.write(
            "production.yaml",
            "kind: Stage\nmetadata: {name: production}\nspec:\n  connections: [{type: stage, name: staging}]\n"
            "  executor: {type: noop}\n  conditions: [{type: approval, approval: {count: 1}}]\n",
        )
        self.wait(lambda: self.condition("EventSource", "mail") is not None, "the sources", 60)
        self.wait(lambda: self.resource("EventSource", "mail")["conditions"][0]["status"] == "True", "the hooks", 60)
        for target in ("quick", "deploy", "quick"):
            self.cli("trigger", "hand", "--payload", payload(target))
        self.wait(lambda: self.api_of("/executions?state=queued")["queued"], "an item that waits", 60)
        hooks = self.hooks("ledger")
        self.set_hooks("ledger", [{**hook, "active": False} for hook in hooks])
        for name in ("search", "billing", "mail", "web"):
            self.remove(name)
        self.wait(lambda: any(plan["blocked"] for plan in self.status()["plans"]), "a blocked set", 60)
        self.wait(lambda: self.condition("EventSource", "ledger", "Drifted"), "the drift", 60)
        self.notify()
        self.review(
            218,
            title="Deploy payments from main only",
            author="ada",
            outcome="Plan: 1 to update; manifests: 1 changed.",
            conclusion="success",
        )
        self.review(
            221,
            title="Retire the legacy mail source",
            author="otto",
            outcome="Plan: 1 blocked; manifests: 1 removed.",
            conclusion="action_required",
            digest="sha256:" + "5f" * 32,
        )
        self.review(
            224,
            title="Try a faster runner",
            author="vera",
            fork=True,
            conclusion="failure",
            outcome="web.yaml:9: no such workflow",
        )
