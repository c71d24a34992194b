import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from reconciler import failpoints

ROOT = Path(__file__).parents[2]
CHILD = textwrap.dedent("""
    import asyncio
    from reconciler.drivers.http.client import HttpSession
    from tests.http.world import Fixture, serve
    async def main():
        async def handler(request):
            print(request.method, request.target, flush=True)
            await request.reply()
        async with serve(handler) as server, HttpSession(allow=("127.0.0.1",)) as session:
            api = Fixture(session).api(server.url)
            for n in (1, 2, 3):
                await api.request("POST", f"/{n}", json={})
        print("end", flush=True)
    asyncio.run(main())
""")


@pytest.mark.parametrize(
    ("point", "lines"),
    [
        ("http-before-send", []),
        ("http-after-send", ["POST /1"]),
        ("http-before-send:3", ["POST /1", "POST /2"]),
        ("http-after-send:2", ["POST /1", "POST /2"]),
        ("http-after-send:9", ["POST /1", "POST /2", "POST /3", "end"]),
    ],
)
def test_a1_a2_the_process_dies_exactly_before_or_after_the_nth_send(point, lines):
    env = {**os.environ, "RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": point}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.stdout.splitlines() == lines
    assert done.returncode == (0 if "end" in lines else -signal.SIGKILL)


def test_failpoints_do_nothing_unless_they_are_compiled_in():
    env = {**os.environ, "RECONCILER_FAILPOINTS": "", "RECONCILER_FAILPOINT": "http-before-send"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "end"


def test_a_name_that_no_code_has_is_refused_at_start():
    env = {**os.environ, "RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": "http-befor-send"}
    done = subprocess.run(
        [sys.executable, "-c", "import reconciler.failpoints"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode != 0
    assert "http-befor-send" in done.stderr


def test_the_table_names_exactly_the_points_in_the_code():
    used = set()
    for file in (ROOT / "reconciler").rglob("*.py"):
        used.update(re.findall(r'failpoint\("([a-z-]+)"\)', file.read_text(encoding="utf-8")))
    assert used == set(failpoints.known())
