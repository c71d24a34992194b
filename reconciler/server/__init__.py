"""What listens: one ASGI app over HTTP, and the admin socket. Both on loopback or a Unix socket by default."""
