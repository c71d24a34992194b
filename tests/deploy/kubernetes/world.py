"""What the pods of the tests reach: a Git server, GitHub's API, PostgreSQL, under their real names and ports, with TLS.

Every pod has a network of its own, in which the names lead to addresses of its loopback device. Connections there are carried to the
servers of the test, over TLS with certificates of an authority that the image trusts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from socket import socket

import trustme


class Carrier:
    """Carries connections of pods to servers of the test, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def serve(self, listener: socket, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Carry each connection of ``listener`` to ``port`` on loopback."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))

        async def start() -> asyncio.Server:
            return await asyncio.start_server(carry, sock=listener, ssl=tls)

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    def end(self, server: asyncio.Server) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(server.close)

    def stop(self) -> None:
        """End the thread, and whatever is still carried."""

        async def cancel() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass(frozen=True, slots=True)
class Route:
    """A host and port of the world, and the port of the test's server that answers there."""

    host: str
    port: int
    to: int
    tls: bool = True


@dataclass(slots=True)
class World:
    """The hosts that one pod reaches."""

    carrier: Carrier
    authority: trustme.CA
    routes: list[Route]
    trusted: bool = True
    """Whether the image trusts the authority; otherwise only a bundle of the configuration does."""
    addresses: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        hosts = list(dict.fromkeys(route.host for route in self.routes))
        self.addresses = {
            host: f"10.96.0.{number}" if host.endswith(".svc") else f"140.82.112.{number}"
            for number, host in enumerate(hosts, 10)
        }

    @property
    def pem(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    @property
    def listeners(self) -> list[tuple[str, int]]:
        return [(self.addresses[route.host], route.port) for route in self.routes]

    def files(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """Return files of the image that depend on the world."""
        files = {
            "/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items()),
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nreconciler:x:65532:65532::/var/lib/reconciler:/usr/sbin/nologin\n",
            "/etc/group": "root:x:0:\nreconciler:x:65532:\n",
            "/etc/ssl/certs/ca-certificates.crt": self.pem if self.trusted else "",
            "/tmp/.image": "",
        }
        if self.trusted:
            files[f"/etc/ssl/certs/{_subject_hash(self.pem)}.0"] = self.pem
        return files

    @contextlib.contextmanager
    def serving(self, listeners: list[socket]) -> Iterator[None]:
        """Answer on the listening sockets of a pod."""
        servers = []
        for route, listener in zip(self.routes, listeners, strict=True):
            context = None
            if route.tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self.authority.issue_cert(route.host).configure_cert(context)
            servers.append(self.carrier.serve(listener, route.to, context))
        try:
            yield
        finally:
            for server in servers:
                self.carrier.end(server)


def _subject_hash(pem: str) -> str:
    """Return the name under which OpenSSL looks for a certificate."""
    command = ["openssl", "x509", "-noout", "-subject_hash"]
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout.strip()
