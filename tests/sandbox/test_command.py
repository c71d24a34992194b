"""`reconciler sandbox`: the simulators in a process of their own."""

import http.client
import re
import signal
import subprocess
import sys
import time


def status_of(port):
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/user", headers={"user-agent": "x", "authorization": "Bearer ghp_sandbox"})
            return connection.getresponse().status
        except ConnectionRefusedError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise AssertionError("the sandbox never answered")


def test_the_simulators_run_in_the_foreground_until_a_signal():
    program = "from reconciler.sandbox.server import run_forever; run_forever({'github': 0})"
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)", line).group(1))
            assert status_of(port) == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
