"""Servers that the pods reach. `make test-deploy` installs helm and kubectl; pytest does not collect this folder by itself."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import trustme

from reconciler.cli.init import files
from reconciler.sandbox.server import SandboxServer, simulator
from tests.deploy.kubernetes.proxy import ConnectProxy
from tests.deploy.kubernetes.world import Carrier, Route, World
from tests.github.apps import create
from tests.source.conftest import Sshd, sshd  # noqa: F401
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo
from tests.support.openbao import OpenBao, openbao
from tests.support.postgres import Postgres

GIT_TOKEN = "canary-git-99aa"
GITHUB_TOKEN = "canary-github-4d1c"
REPOSITORY = "your-organization/your-repository"
OTHER = "your-organization/other-repository"

_SECRETS = {
    "integrations": "  provider: env\n  data:\n    token: {env: RECONCILER_SECRET_GITHUB_TOKEN}\n",
    "files": "  provider: file\n  data:\n    token: {path: github-token}\n",
    "vault": (
        "  provider: vault\n  vault:\n    address: https://bao.acme.example:8200\n    mount: secret\n    path: ci/github\n"
        "    auth: {use: token, token: {valueFrom: {secret: {name: bao, key: token}}}}\n    data: {token: {field: github_token}}\n---\n"
        "apiVersion: v1\nkind: Secret\nmetadata: {name: bao}\nspec:\n  provider: env\n"
        "  data: {token: {env: RECONCILER_SECRET_BAO_TOKEN}}\n"
    ),
    "app": "  provider: file\n  data:\n    token: {path: deployer/private-key.pem}\n",
}
"""How the manifests of a repository name the credential of GitHub."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers that all pods of a test session share."""

    carrier: Carrier
    authority: trustme.CA
    git: GitHttpServer
    postgres: Postgres
    bao: OpenBao
    sshd: Sshd
    folder: Path


@dataclass(frozen=True, slots=True)
class Scene:
    """The world of one pod: GitHub is its own."""

    world: World
    github: SandboxServer
    secrets: dict[str, str]
    proxy: ConnectProxy | None

    def hooks(self) -> list[str]:
        """URLs of the webhooks that the daemon created."""
        rows = self.github.admin.state()["hooks"].values()
        return [hook["config"]["url"] for hooks in rows for hook in hooks]


def _manifests(name: str, client_id: str = "") -> dict[str, str | bytes | None]:
    text = files()["github/integration.yaml"]
    text = text.replace("  provider: env\n  data:\n    token: {env: RECONCILER_SECRET_GITHUB_TOKEN}\n", _SECRETS[name])
    assert _SECRETS[name] in text
    if client_id:
        before, _, _ = text.partition("    use: token\n")
        key = "privateKey: {valueFrom: {secret: {name: github, key: token}}}"
        text = f"{before}    use: github-app\n    githubApp: {{clientId: {client_id}, {key}}}\n"
    return {**files(), "github/integration.yaml": text}


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, sshd: Sshd) -> Iterator[Servers]:  # noqa: F811
    folder = tmp_path_factory.mktemp("servers")
    for name in ("integrations", "files", "vault"):
        GitRepo(folder / f"git/acme/{name}.git").commit(_manifests(name), "first")
    _sign(GitRepo(folder / "git/acme/signed.git"), sshd.client_key)
    _serve_over_ssh(sshd, folder / "git/acme/integrations.git")
    carrier = Carrier()
    with GitHttpServer(folder / "git", token=GIT_TOKEN) as git, openbao() as bao:
        bao.must("POST", "secret/data/ci/github", {"data": {"github_token": GITHUB_TOKEN}})
        yield Servers(carrier, trustme.CA(), git, postgres, bao, sshd, folder)
    carrier.stop()


def _sign(repository: GitRepo, key: Path) -> None:
    """Commit manifests of two webhooks with a signature."""
    manifests = _manifests("integrations")
    other = str(manifests["github/sources.yaml"]).replace("your-repository", "other-repository")
    sha = repository.commit({**manifests, "github/other.yaml": other}, "first")
    tree = repository.git("rev-parse", f"{sha}^{{tree}}")
    repository.git("update-ref", "-d", f"refs/heads/{repository.branch}")
    repository.commit_tree(tree, "signed", sign=str(key))


def _serve_over_ssh(sshd: Sshd, repository: Path) -> None:  # noqa: F811
    """Let the deploy key read one repository, whatever path the client names."""
    authorized = sshd.client_key.with_name("authorized")
    key = sshd.client_key.with_suffix(".pub").read_text()
    authorized.write_text(f'command="git-upload-pack {repository}",restrict {key}')


@pytest.fixture
def scene(servers: Servers) -> Callable[[str], AbstractContextManager[Scene]]:
    """Return the world of a value set, by its name."""

    @contextmanager
    def scene(values: str) -> Iterator[Scene]:
        with SandboxServer(simulator("github")) as github:
            first = next(iter(github.admin.state()["tokens"].values()))
            github.admin.put_state(
                {
                    "tokens": {GITHUB_TOKEN: first},
                    "orgs": {REPOSITORY.partition("/")[0]: {}},
                    "repos": {REPOSITORY: {}, OTHER: {}},
                }
            )
            secrets = _secrets(servers)
            if values == "github-app":
                app = create(github, "your-organization", events=["push"], permissions={"contents": "read"})
                secrets["private-key.pem"] = app.pem
                GitRepo(servers.folder / "git/acme/app.git").commit(_manifests("app", app.client_id), "first")
            if values == "postgres-operator":
                _as_an_operator_does(secrets["url"].rpartition("/")[2], servers)
            routes = [
                Route("github.com", 443, servers.git.port),
                Route("api.github.com", 443, github.port),
                Route("bao.acme.example", 8200, int(servers.bao.url.rpartition(":")[2])),
                Route("git.acme.example", 8443, servers.git.port),
                Route("git.acme.example", 22, servers.sshd.port, tls=False),
                Route("postgres.databases.svc", 5432, servers.postgres.port, tls=False),
                Route("state-rw.databases.svc", 5432, servers.postgres.port, tls=False),
            ]
            world = World(servers.carrier, servers.authority, routes, trusted=values != "ca-bundle")
            if values != "proxy":
                yield Scene(world, github, secrets, None)
                return
            with ConnectProxy(world, "reconciler:pr0xy") as proxy:
                behind = World(servers.carrier, servers.authority, [Route("proxy.acme.example", 3128, proxy.port, tls=False)])
                yield Scene(behind, github, secrets, proxy)

    return scene


def _as_an_operator_does(name: str, servers: Servers) -> None:
    """Make the database and the user that the value set names; the user needs the password."""
    access = servers.postgres._folder / "data/pg_hba.conf"
    access.write_text("host reconciler app all scram-sha-256\n" + access.read_text())
    with psycopg.connect(
        f"host=127.0.0.1 port={servers.postgres.port} user=postgres dbname=postgres", autocommit=True
    ) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'canary-database-7b'")
        connection.execute(f"ALTER DATABASE {name} RENAME TO reconciler")  # type: ignore[arg-type]
        connection.execute("ALTER DATABASE reconciler OWNER TO app")
        connection.execute("SELECT pg_reload_conf()")


def _secrets(servers: Servers) -> dict[str, str]:
    """Return the content of the Secrets and ConfigMaps that the value sets name, by key."""
    database = servers.postgres.database()
    kind, key, *_ = servers.sshd.client_key.with_name("host.pub").read_text().split()
    master = base64.b64encode(bytes(range(32))).decode()
    return {
        "master.key": master,
        "key": master,
        "old-key": master,
        "token": GIT_TOKEN,
        "github-token": GITHUB_TOKEN,
        "bao-token": servers.bao.token,
        "client-secret": "canary-login-3c3c",
        "proxy-url": "http://reconciler:pr0xy@proxy.acme.example:3128",
        "ca.crt": servers.authority.cert_pem.bytes().decode(),
        "ssh-privatekey": servers.sshd.client_key.read_text(),
        "known_hosts": f"git.acme.example {kind} {key}\n",
        "allowed_signers": f"ada@example.com {servers.sshd.client_key.with_suffix('.pub').read_text()}",
        "url": f"postgresql+psycopg://postgres@postgres.databases.svc:5432/{database.rpartition('/')[2]}",
        "password": "canary-database-7b",
    }
