"""``review``: one pull request, reviewed now by the running daemon."""

from __future__ import annotations

from reconciler.cli.daemon_client import act
from reconciler.cli.options import ReviewOptions
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.model.exit_codes import EXIT_INVALID, EXIT_OK, EXIT_PARTIAL
from reconciler.model.printable import plain
from reconciler.model.reviews import Conclusion
from reconciler.model.views import ReviewedPull

MARGIN_S = 10.0
_EXIT = {Conclusion.FAILURE: EXIT_INVALID, Conclusion.ACTION_REQUIRED: EXIT_PARTIAL, Conclusion.TIMED_OUT: EXIT_PARTIAL}


def review(options: ReviewOptions) -> int:
    """Review a pull request, print the verdict, and return an exit code for it."""
    config = configuration(options)
    request = {"verb": "review", "number": options.number}
    answer = act(config, request, ReviewedPull, timeout_s=config.review.timeout + MARGIN_S)
    answer.show(options.output, _show)
    return _EXIT.get(Conclusion(answer.view.conclusion), EXIT_OK)


def _show(answer: ReviewedPull) -> None:
    out(f"#{answer.number} at {answer.head[:8]}: {answer.conclusion.replace('_', ' ')}, {plain(answer.outcome)}")
    if answer.url:
        out(plain(answer.url))
