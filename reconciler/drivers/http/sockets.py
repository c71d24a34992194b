"""A TCP connection to a host of a manifest that is not called over HTTP, under the same rules: `reconciler.drivers.http.network`."""

from __future__ import annotations

import asyncio
import socket

from reconciler.drivers.http.network import NetworkPolicy
from reconciler.model.errors import ProviderUnavailable


async def connected(host: str, port: int, allow: tuple[str, ...], *, timeout_s: float) -> socket.socket:
    """Return a connection to the first address of ``host`` that answers.

    Raises `AddressRefused` if an address is neither public nor in ``allow``, `ProviderUnavailable` if none answers.
    """
    loop = asyncio.get_running_loop()
    reason = "unknown host name"
    try:
        async with asyncio.timeout(timeout_s):
            rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            NetworkPolicy(allow=allow).check_addresses(host, [str(row[4][0]) for row in rows], port)
            for family, kind, protocol, _, address in rows:
                made = socket.socket(family, kind, protocol)
                made.setblocking(False)  # noqa: FBT003  the standard library's signature
                try:
                    await loop.sock_connect(made, address)
                    return made
                except OSError as error:
                    made.close()
                    reason = "refused" if isinstance(error, ConnectionRefusedError) else error.strerror or "failed"
                except BaseException:
                    made.close()
                    raise
    except TimeoutError:
        reason = "timed out"
    except socket.gaierror:
        reason = "unknown host name"
    raise ProviderUnavailable(f"{host}:{port}: no connection ({reason})")


__all__ = ["connected"]
