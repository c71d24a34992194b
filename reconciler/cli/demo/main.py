"""``demo``: a guided demonstration on this machine with Git over HTTP, provider simulators and a daemon process.

Every step is verified at the provider, as a user would see it, and printed with its time. The exit code is 0 only if every
step succeeded.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator

from reconciler.cli.demo.ending import next_steps, stay
from reconciler.cli.demo.folder import demo_folder
from reconciler.cli.demo.play import play
from reconciler.cli.demo.script import Script
from reconciler.cli.demo.world import DemoWorld
from reconciler.cli.options import DemoOptions
from reconciler.cli.output import say
from reconciler.cli.sink import out
from reconciler.model.errors import SourceError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK


def demo(options: DemoOptions) -> int:
    """Run the demo; with --keep the sandbox and the daemon stay until Ctrl-C. Raises `SourceError` without Git."""
    if shutil.which("git") is None:
        raise SourceError("the program git is not installed", hint="Install git 2.39.5 or newer.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        world = stack.enter_context(DemoWorld(stack.enter_context(demo_folder(options.dir))))
        script = Script()
        try:
            play(world, script)
            out("")
            out(f"all steps verified in {script.total():.1f} s")
            if options.keep:
                stay(world)
        except Exception as error:  # noqa: BLE001  shown with the log
            say("")
            say(f"the demo failed: {error}")
            world.show_log()
            if options.dir is None:
                say("Run it with --dir FOLDER to keep its files.")
            return EXIT_ERROR
        if not options.keep:
            next_steps()
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
