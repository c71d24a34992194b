"""GitLab in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.gitlab.app import TOKEN, GitLab
from tests.contract.provider import Provider


class GitLabProvider(Provider):
    driver = DRIVERS["gitlab"]
    token, url = TOKEN, "https://gitlab.com"
    lacks = {
        "check": "no manifest needs a right at GitLab yet; tests/gitlab tries declared permissions",
        "reporter": "results are not written back to GitLab",
    }

    def simulator(self) -> Simulator:
        return GitLab()
