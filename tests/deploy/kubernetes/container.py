"""The first process of a container: it builds the file system and network that the kubelet would, and becomes the program.

Started by `unshare` in new namespaces of mounts, processes, network and host name, with a specification as JSON in a file, and
the number of an open Unix socket. It sends its listening sockets there, and leaves an agent behind that opens connections inside of
the network on request, as the kubelet and the Service do.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
IFF_UP = 1
PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); raises OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: mount {source} on {target}")


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show ``source`` at ``target``."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)


def program(source: str, target: str) -> None:
    """Show a program or library of the host, if there is one."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.exists(source):
        bind(source, target)


def file_system(spec: dict[str, Any]) -> None:
    """Build the root below ``spec["root"]``: programs of the host, the files of the image, the volumes of the pod; the rest is empty."""
    root = spec["root"]
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=0755")
    hidden = {
        path for path in spec["programs"] for volume in spec["mounts"] if path.startswith(volume["target"].rstrip("/") + "/")
    }
    for path in spec["programs"].keys() - hidden:
        program(spec["programs"][path], root + path)
    for path, text in spec["files"].items():
        target = Path(root + path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    bind("/dev", root + "/dev")
    os.makedirs(root + "/proc")
    mount("proc", root + "/proc", "proc")
    os.makedirs(root + spec["cwd"], exist_ok=True)
    for volume in spec["mounts"]:
        bind(volume["source"], root + volume["target"], read_only=volume["readOnly"])
    for path in hidden:  # a checkout below /tmp, which is a volume in a pod
        program(spec["programs"][path], root + path)
    if spec["readOnlyRoot"]:
        mount("none", root, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def network(spec: dict[str, Any]) -> list[socket.socket]:
    """Give the loopback device the addresses of the pod and of its world, and listen for the hosts of that world."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        for number, address in enumerate(spec["addresses"], 1):
            name = f"lo:{number}".encode()
            for call, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
                fcntl.ioctl(control, call, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(value)))
    return [socket.create_server((address, port)) for address, port in spec["listeners"]]


def agent(channel: socket.socket) -> None:
    """Connect inside of the network on request, and send the connection out; it ends with the container."""
    while request := channel.recv(256):
        host, _, port = request.decode().rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.settimeout(None)
                socket.send_fds(channel, [b"+"], [connection.fileno()])
        except OSError as error:
            channel.send(f"-{error}".encode())


def main() -> None:
    """Become the program."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    file_system(spec)
    socket.sethostname(spec["hostname"])
    listeners = network(spec)
    channel = socket.socket(fileno=int(sys.argv[2]))
    socket.send_fds(channel, [b"listening"], [listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()
    if os.fork() == 0:
        os.closerange(0, channel.fileno())
        agent(channel)
        os._exit(0)
    channel.close()
    os.chroot(spec["root"])
    os.chdir(spec["cwd"])
    os.umask(0o022)
    if os.geteuid() != spec["uid"]:
        os.setgroups(spec["groups"])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    main()
