"""Integrations of every form in one installation of the real program: each at a peer of its own, with its secrets in files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.sandbox.server import SandboxServer
from tests.engine.world import OWNER, World
from tests.flow.stage_world import free_port
from tests.support.forms import Form, Trust, Values

ISSUER = "https://hooks.example"


def named(form: Form) -> str:
    """Return the name of a form's Integration."""
    return form.name.replace("/", "-")


class FormsWorld(World):
    """A daemon that publishes its issuer's documents on loopback, where the peers read them."""

    def __init__(self, folder: Path, forms: Iterable[Form]) -> None:
        super().__init__(folder, providers=())
        self.port, self.forms = free_port(), tuple(forms)
        self.secrets = folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.configure(
            server=f'{{listen: "127.0.0.1:{self.port}", publicUrl: "{ISSUER}"}}',
            secrets=f'{{folder: "{self.secrets}"}}',
            log="{format: json}",
        )
        self.write("secrets.yaml", "---")
        self.values: dict[str, Values] = {}
        for form in self.forms:
            self.servers[named(form)] = self._stack.enter_context(SandboxServer(form.simulator()))
            self.declare(form)

    def declare(self, form: Form) -> None:
        """Make the peer of a form accept it, and write its Integration and Secret."""
        name, server = named(form), self.servers[named(form)]
        subject = f"reconciler:{OWNER}:default:Integration:{name}"
        values = form.prepare(server, Trust(ISSUER, f"http://127.0.0.1:{self.port}", subject))
        self.put(form, values)
        auth = json.dumps(form.auth_with(values)).replace('"name": "credentials"', f'"name": "{name}"')
        spec = {"type": form.provider, **form.spec, "apiUrl": server.url, "auth": json.loads(auth)}
        documents: list[Any] = [{"kind": "Integration", "metadata": {"name": name}, "spec": spec}]
        if values:
            data = {key: {"path": f"{name}.{key}"} for key in values}
            documents.append({"kind": "Secret", "metadata": {"name": name}, "spec": {"provider": "file", "data": data}})
        self.write(f"{name}.yaml", "\n---\n".join(map(json.dumps, documents)))

    def put(self, form: Form, values: Values) -> None:
        """Write the values of a form's Secret."""
        self.values[form.name] = {**self.values.get(form.name, {}), **values}
        for key, value in values.items():
            path = self.secrets / f"{named(form)}.{key}"
            part = path.with_suffix(".part")
            part.write_text(value)
            part.chmod(0o600)
            part.replace(path)

    def credential(self, form: Form) -> dict[str, Any]:
        return self.condition("Integration", named(form), "CredentialsValid") or {}

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"].rpartition("/")[2]: row for row in self.status().get("credentials", [])}

    def valid(self) -> bool:
        return all(self.credential(form).get("status") == "True" for form in self.forms)

    def events(self, name: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [row for row in rows if row.get("event") == name]


@contextmanager
def forms_world(folder: Path, forms: Iterable[Form]) -> Iterator[FormsWorld]:
    """Yield a world, and end its processes and peers."""
    world = FormsWorld(folder, forms)
    try:
        yield world
    finally:
        world.close()


__all__ = ["FormsWorld", "forms_world", "named"]
