"""What users of the GitHub simulator do to workflow runs without an API call: finish, change, lose, rerun and hide them."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.sandbox.app import Action
from reconciler.sandbox.github import run_shapes as shapes
from reconciler.sandbox.github.records import HeldStatus
from reconciler.sandbox.github.run_shapes import phase_at
from reconciler.sandbox.github.runs import Runs
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import number, overwrite, picked

_SETTABLE = frozenset({"display_title", "head_branch", "head_sha", "actor", "event"})


class RunControl:
    """Handlers of the actions on a run."""

    def __init__(self, app: GitHubState, runs: Runs) -> None:
        self.app, self._runs = app, runs

    def actions(self) -> Mapping[str, Action]:
        """What can be done to a run by hand; each takes {repo, run_id}.

        ``finish_run`` {conclusion}; ``set_run`` {status, and fields of it}; ``lose_run``: 404 from now on; ``rerun``. And
        ``hide_runs`` {seconds}: sets ``run_list_lag_s``.
        """
        return {
            "finish_run": self._finish_by_hand,
            "set_run": self._set,
            "lose_run": self._lose,
            "rerun": self._rerun_by_hand,
            "hide_runs": self._hide,
        }

    def _finish_by_hand(self, options: Mapping[str, object]) -> dict[str, object]:
        conclusion = str(options.get("conclusion", "success"))
        if conclusion not in shapes.CONCLUSIONS:
            raise ValueError(f"conclusion must be one of {', '.join(shapes.CONCLUSIONS)}")
        run = self._runs.named(options)
        self._runs.end(run, conclusion)
        return self._runs.now(run)

    def _set(self, options: Mapping[str, object]) -> dict[str, object]:
        run = self._runs.named(options)
        overwrite(run, picked(options, _SETTABLE & set(options)))
        status = options.get("status")
        if status == "completed":
            return self._finish_by_hand(options)
        if status is not None:
            if status not in shapes.STATUSES:
                raise ValueError(f"status must be one of {', '.join(shapes.STATUSES)}")
            held: HeldStatus = {"status": str(status), "at": self.app.clock()}
            run["attempts"][-1].update({"held": held, "ended_at": None, "conclusion": None})
            self._runs.advance(run)
        return self._runs.now(run)

    def _lose(self, options: Mapping[str, object]) -> dict[str, object]:
        run = self._runs.named(options)
        self.app.records["runs"][str(run["repository_id"])].remove(run)
        return {"id": run["id"]}

    def _rerun_by_hand(self, options: Mapping[str, object]) -> dict[str, object]:
        run = self._runs.named(options)
        ended = phase_at(run["attempts"][-1], self.app.clock()).status == "completed"
        if not ended or self.app.shown_workflow(str(options["repo"]), run) is None:
            raise ValueError(f"run {run['id']} is not completed, or its workflow is gone")
        self._runs.again(run, failed_only=False, actor=run["actor"])
        return self._runs.now(run)

    def _hide(self, options: Mapping[str, object]) -> dict[str, object]:
        self.app.patch_settings({"run_list_lag_s": number(options["seconds"])})
        return {"run_list_lag_s": self.app.settings["run_list_lag_s"]}
