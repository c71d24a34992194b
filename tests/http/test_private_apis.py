"""What this package relies on beyond the documented APIs of its HTTP libraries, each with the version it was checked with."""

import subprocess
import sys
from pathlib import Path

import httpx

from reconciler.drivers.http import transport

IMPORTS = """
import sys
import reconciler.drivers.http.transport
assert sys.modules["httpx._main"] is None
assert not {"click", "pygments"} & sys.modules.keys(), "httpx imported its command line"
import httpx
assert callable(httpx.main)
httpx.Client().close()
"""


def test_httpx_0_28_works_without_its_private_module_of_the_command_line():
    assert httpx.__version__.startswith("0.28."), "check `reconciler/drivers/__init__.py` against this version of httpx"
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=60)


async def test_httpx_0_28_passes_the_connect_timeout_and_the_raw_stream_to_a_transport():
    assert httpx.__version__.startswith("0.28."), "check `reconciler/drivers/http/transport.py` against this version of httpx"
    request = httpx.Request("POST", "http://x.example/a?b=%20c", content=b"{}", extensions={"timeout": {"connect": 1.0}})
    assert (request.extensions, str(request.url), request.headers["content-length"]) == (
        {"timeout": {"connect": 1.0}},
        "http://x.example/a?b=%20c",
        "2",
    )
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"still packed"))
    assert [part async for part in response.stream] == [b"still packed"]


def test_only_the_transport_knows_httpx():
    package = Path(transport.__file__).parent
    assert [path.name for path in package.glob("*.py") if "httpx" in path.read_text("utf-8")] == ["transport.py"]
