"""Loading the configuration: file, environment, command line, and every way they can be wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.config.file import Tree, read_tree
from reconciler.config.load import load_config
from reconciler.config.settings import BY_PATH, KEYS, SECTIONS, Config
from reconciler.config.values import ApiToken, LoginRole, RateLimit, parse_duration, parse_size
from reconciler.model.errors import ConfigError

HASH = hashlib.sha256(b"token").hexdigest()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(tmp_path: Path, text: str, name: str = "reconciler.yaml") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(tmp_path: Path, text: str, **env: str) -> Config:
    return load_config(write(tmp_path, text), env)


def problems(tmp_path: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **env)
    error = caught.value
    assert error.code == "RC3010"
    assert error.exit_code == 1
    return list(error.details) or [f"{error.location}: {error.message}"]


FULL = f"""
owner: team-a
source:
  url: https://git.example.com/acme/integrations
  branch: live
  path: ci
  interval: 30s
  auth: {{tokenFile: git-token, sshKeyFile: /abs/key, knownHostsFile: hosts}}
  verify: {{mode: Range, allowedSignersFile: signers, revocationFile: krl, principals: [ada@example.com]}}
  requireFastForward: true
  allowEmpty: true
state: {{url: postgresql+psycopg://u:p@db/reconciler}}
server:
  listen: "[::1]:0"
  publicUrl: https://hooks.example.com/x
  maxBody: 1MiB
  tokens: [{{name: ci, sha256: {HASH}, role: operator}}]
  login:
    oidc:
      issuer: https://login.example.com/
      clientId: board
      clientSecretFile: login.secret
      roles: [{{claim: groups, value: platform, role: operator}}]
oidc: {{issuer: https://id.example.com/ci, keyRotation: 30d, tokenLifetime: 5m}}
reconcile:
  interval: 1h30m
  settle: 5s
  retry: {{min: 2s, max: 1m}}
  concurrency: 8
  prune: false
  limits: {{deletePercent: 0, deleteMinimum: 1, deleteMax: 7}}
secrets: {{env: [A_*, B], folder: sec, sops: {{ageKeyFile: keys/age}}}}
network: {{allow: [10.0.0.0/8, git.example.com, "*.corp.example:8443", "[::1]:80"], caBundle: ca.pem, proxy: http://proxy:3128}}
rateLimits: {{github: {{writesPerMinute: 10, writesPerHour: 100}}, buddy: {{pointsPerMinute: 5}}}}
review:
  {{integration: host@ci, repository: acme/web, check: plan, comment: false, forks: off, timeout: 5m, approvers: [ada], interval: 2m}}
retention: {{inbox: 1d, history: 2d}}
status: {{file: out/status.json, heartbeat: 1s}}
log: {{format: json, level: debug}}
telemetry:
  {{enabled: true, endpoint: "https://otel.example.com/v1/traces", headers: ["authorization=Bearer x"], timeout: 5s, compression: none,
  serviceName: rec, attributes: [deployment.environment.name=prod], sampleRatio: 0.25, incoming: parent, propagate: ["*.example.com"]}}
masterKey: {{file: keys/master, previousFile: keys/old}}
sandbox: true
"""


def test_every_key_of_the_file_arrives_typed_and_with_absolute_paths(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert config.owner == "team-a"
    assert config.source.interval == 30.0
    assert config.source.token_file == str(tmp_path / "git-token")
    assert config.source.ssh_key_file == "/abs/key"
    assert config.source.verify.principals == ("ada@example.com",)
    assert config.server.listen == "[::1]:0"
    assert config.server.max_body == 1 << 20
    assert config.server.tokens == (ApiToken("ci", HASH, "operator"),)
    assert config.server.login.oidc.roles == (LoginRole("groups", "platform", "operator"),)
    assert config.reconcile.interval == 5400.0
    assert (config.reconcile.retry_min, config.reconcile.retry_max) == (2.0, 60.0)
    assert config.reconcile.limits.delete_max == 7
    assert config.rate_limits == {"github": RateLimit(10, 100), "buddy": RateLimit(points_per_minute=5)}
    assert config.retention.history == 2 * 86_400.0
    assert config.status.file == str(tmp_path / "out/status.json")
    assert config.master_key.previous_file == str(tmp_path / "keys/old")
    assert config.secrets.folder == str(tmp_path / "sec")
    assert config.path == str(tmp_path / "reconciler.yaml")
    assert config.own_files == tuple(
        map(
            Path,
            (
                f"{tmp_path}/git-token",
                "/abs/key",
                f"{tmp_path}/keys/master",
                f"{tmp_path}/keys/old",
                f"{tmp_path}/keys/age",
                f"{tmp_path}/login.secret",
            ),
        )
    )


def test_the_file_of_the_test_above_leaves_no_key_at_its_default(tmp_path: Path) -> None:
    loaded, default = {row[0]: row[2] for row in load(tmp_path, FULL).describe()}, {row[0]: row[2] for row in Config().describe()}
    same = {path for path in loaded if loaded[path] == default[path] and not BY_PATH[path].secret}
    assert same <= {"rateLimits"}


def test_without_a_file_the_defaults_hold_below_the_working_directory(tmp_path: Path) -> None:
    config = load_config(None, {}, overrides={"source.url": "manifests"})
    assert config.source.url == str(tmp_path / "manifests")
    assert config.state.url == f"sqlite:///{tmp_path}/state/state.db"
    assert config.state_dir == tmp_path / "state"
    assert config.master_key.file == str(tmp_path / "state/master.key")
    assert config.reconcile.limits.delete_percent == 30
    assert not config.sandbox
    assert config.path == ""


def test_a_file_in_the_working_directory_is_found_and_a_named_one_must_be_there(tmp_path: Path) -> None:
    write(tmp_path, "owner: found\n")
    assert load_config(None, {}).owner == "found"
    with pytest.raises(ConfigError, match=r"the configuration file .*other\.yaml does not exist"):
        load_config(tmp_path / "other.yaml", {})


def test_the_command_line_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "log: {level: debug}\nsource: {branch: file, path: file}\n")
    env = {"RECONCILER_LOG_LEVEL": "warning", "RECONCILER_SOURCE_BRANCH": "env"}
    config = load_config(path, env, overrides={"log.level": "error"})
    assert (config.log.level, config.source.branch, config.source.path) == ("error", "env", "file")


def test_every_key_has_a_variable_of_its_own(tmp_path: Path) -> None:
    assert len({key.variable for key in KEYS}) == len(KEYS)
    assert BY_PATH["server.publicUrl"].variable == "RECONCILER_SERVER_PUBLIC_URL"
    assert BY_PATH["source.auth.knownHostsFile"].variable == "RECONCILER_SOURCE_AUTH_KNOWN_HOSTS_FILE"
    env = {
        "RECONCILER_SERVER_MAX_BODY": "64KiB",
        "RECONCILER_RECONCILE_PRUNE": "false",
        "RECONCILER_NETWORK_ALLOW": "a.example, 10.0.0.0/8",
        "RECONCILER_RECONCILE_CONCURRENCY": "7",
        "RECONCILER_RATE_LIMITS_GITHUB_WRITES_PER_MINUTE": "9",
        "RECONCILER_SERVER_TOKENS": f'[{{"name": "ci", "sha256": "{HASH}", "role": "viewer"}}]',
        "RECONCILER_RATE_LIMITS": '{"buddy": {"writesPerHour": 3}}',
    }
    config = load_config(None, env)
    assert config.server.max_body == 65_536
    assert config.reconcile.prune is False
    assert config.network.allow == ("a.example", "10.0.0.0/8")
    assert config.reconcile.concurrency == 7
    assert config.rate_limits == {"github": RateLimit(writes_per_minute=9), "buddy": RateLimit(writes_per_hour=3)}
    assert config.server.tokens[0].role == "viewer"


@pytest.mark.parametrize("key", [key for key in KEYS if key.secret], ids=lambda key: key.path)
def test_a_secret_key_is_also_read_from_a_file(key: Any, tmp_path: Path) -> None:
    value = {
        "state.url": "postgresql+psycopg://u:hunter2-pw@db/x",
        "network.proxy": "http://u:hunter2-pw@proxy:1",
        "server.tokens": "[]",
        "telemetry.headers": "authorization=Bearer hunter2-pw",
    }[key.path]
    (tmp_path / "value").write_text(value + "\n")
    config = load_config(None, {f"{key.variable}_FILE": "value"})
    read: Any = config
    for part in key.attribute.split("."):
        read = getattr(read, part)
    assert read == {"server.tokens": (), "telemetry.headers": (value,)}.get(key.path, value)
    with pytest.raises(ConfigError, match="given twice"):
        load_config(None, {f"{key.variable}_FILE": "value", key.variable: value})


def test_no_secret_of_the_configuration_is_in_its_repr_or_description(tmp_path: Path) -> None:
    config = load(
        tmp_path, "state: {url: 'postgresql+psycopg://u:hunter2-pw@db/x'}\nnetwork: {proxy: 'http://u:hunter2-pw@proxy:1'}\n"
    )
    assert "hunter2-pw" in config.state.url + config.network.proxy
    assert "hunter2-pw" not in repr(config) + str(config.describe())


def test_a_misspelt_variable_is_an_error_but_those_of_a_cluster_and_of_secrets_are_not(tmp_path: Path) -> None:
    assert problems(tmp_path, "", RECONCILER_SOURCE_BRANC="x") == [
        "RECONCILER_SOURCE_BRANC: no key has this variable; did you mean RECONCILER_SOURCE_BRANCH?"
    ]
    assert problems(tmp_path, "", RECONCILER_RATE_LIMITS_GITHUB_WRITES="x")
    fine = {
        "RECONCILER_STATE_SERVICE_HOST": "10.0.0.1",
        "RECONCILER_SERVER_PORT_80_TCP_ADDR": "10.0.0.1",
        "RECONCILER_SERVER_PORT": "tcp://x",
        "RECONCILER_SECRET_GITHUB": "x",
        "RECONCILER_FAILPOINTS": "1",
        "RECONCILER_DEBUG": "1",
    }
    load_config(None, fine)


def test_unknown_keys_name_their_place_and_the_nearest_key(tmp_path: Path) -> None:
    found = problems(
        tmp_path, "ownr: a\nserver:\n  public_url: https://x\nreconcile: {limits: {deletePercnt: 3}}\nstate: {dir: x}\n"
    )
    file = tmp_path / "reconciler.yaml"
    assert found == [
        f"{file}:1:1: unknown key 'ownr'; did you mean 'owner'?",
        f"{file}:3:3: unknown key 'server.public_url'; did you mean 'server.publicUrl'?",
        f"{file}:4:22: unknown key 'reconcile.limits.deletePercnt'; did you mean 'reconcile.limits.deletePercent'?",
        f"{file}:5:9: unknown key 'state.dir'; 'state' has: url",
    ]


def test_all_problems_come_at_once_from_file_environment_and_checks(tmp_path: Path) -> None:
    found = problems(tmp_path, "source: {interval: soon}\nserver: {listen: nowhere}\nstate: 5\n", RECONCILER_LOG_LEVEL="loud")
    assert len(found) == 4
    text = "\n".join(found)
    for part in (
        ":1:10: source.interval",
        ":2:10: server.listen",
        ":3:1: state: must be a mapping",
        "RECONCILER_LOG_LEVEL: log.level: must be one of",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server: {publicUrl: 'http://hooks.example.com'}", "must be https"),
        ("server: {publicUrl: 'https://u:p@hooks.example.com'}", "no credentials"),
        ("server: {publicUrl: 'ftp://x'}", "https://HOST"),
        ("server: {publicUrl: 'https://x:port'}", "https://HOST"),
        ("server: {listen: '::1:80'}", "brackets"),
        ("server: {listen: '127.0.0.1:70000'}", "host:port"),
        ("server: {maxBody: -1}", "size"),
        ("server: {maxBody: 12 parsecs}", "size"),
        ("server: {tokens: [{name: a, sha256: abc, role: viewer}]}", "SHA-256"),
        (f"server: {{tokens: [{{name: a, sha256: {HASH}, role: god}}]}}", "one of viewer"),
        (
            f"server: {{tokens: [{{name: a, sha256: {HASH}, role: viewer}}, {{name: a, sha256: {HASH}, role: viewer}}]}}",
            "same name",
        ),
        ("server: {login: {oidc: {clientId: a}}}", "server.login.oidc.issuer"),
        ("server: {login: {oidc: {issuer: 'https://i.example'}}}", "server.login.oidc.clientId"),
        ("server: {login: {oidc: {issuer: 'https://i.example'}}}", "server.login.oidc.roles"),
        ("server: {login: {oidc: {issuer: 'https://i.example'}}}", "server.publicUrl"),
        ("server: {login: {oidc: {issuer: 'http://i.example'}}}", "must be https"),
        ("server: {login: {oidc: {issuer: 'https://u:p@i.example'}}}", "no credentials"),
        ("server: {login: {oidc: {roles: [{claim: a, value: b, role: god}]}}}", "one of viewer"),
        ("server: {login: {oidc: {roles: [{claim: a, role: viewer}]}}}", "a list of {claim, value, role}"),
        ("server: {login: {oidc: {roles: [{claim: a, value: 5, role: viewer}]}}}", "a list of {claim, value, role}"),
        ("server: {login: {ldap: {}}}", "unknown key"),
        ("reconcile: {interval: 0s}", "more than 0"),
        ("reconcile: {interval: -5}", "duration"),
        ("reconcile: {interval: .inf}", "duration"),
        ("reconcile: {concurrency: 0}", "1 to 1024"),
        ("reconcile: {retry: {min: 1h, max: 1m}}", "min ≤ max"),
        ("reconcile: {limits: {deletePercent: 101}}", "0 to 100"),
        ("reconcile: {limits: {deleteMax: true}}", "whole number"),
        ("reconcile: {prune: 'yes'}", "true or false"),
        ("rateLimits: {github: {writesPerMinut: 1}}", "unknown key"),
        ("rateLimits: {github: 5}", "a mapping of"),
        ("network: {allow: ['https://x']}", "neither a host name"),
        ("network: {allow: [10.0.0.0/99]}", "neither a host name"),
        ("network: {proxy: 'socks://x'}", "http://HOST"),
        ("owner: Team A", "lower-case"),
        ("owner: 5", "quotes"),
        ("state: {url: 'mysql://x'}", "postgresql"),
        ("state: {url: 'sqlite:///:memory:'}", "sqlite:///PATH"),
        ("masterKey: {file: k, previousFile: k}", "key in force"),
        ("source: {verify: {mode: HEAD}}", "allowedSignersFile"),
        ('source: {url: "a\\nb"}', "control characters"),
        ("log: {format: xml}", "one of auto"),
        ("review: {integration: 'A B'}", "NAME or NAME@CANVAS"),
        ("review: {integration: github, timeout: 0s, repository: a/b}", "at least 1s"),
        ("review: {repository: web}", "OWNER/NAME"),
        ("review: {integration: github, check: '', repository: a/b}", "characters"),
        ("{review: {integration: github}, source: {url: /srv/manifests}}", "is required if source.url is a folder"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(text: str, expected: str, tmp_path: Path) -> None:
    assert any(expected in line for line in problems(tmp_path, text))


@pytest.mark.parametrize(
    "url", ["https://ghp_canary0123456789:x@h/r", "https://canary-token@h/r", "ssh://u:canary-pw@h/r", "http://canary@h"]
)
def test_c24_credentials_in_the_source_url_are_refused_and_never_repeated(url: str, tmp_path: Path) -> None:
    found = problems(tmp_path, f"source: {{url: '{url}'}}\n")
    assert "tokenFile" in found[0]
    assert "canary" not in str(found)


def test_ssh_urls_may_have_a_user(tmp_path: Path) -> None:
    for url in ("ssh://git@h/r", "git@github.com:acme/x.git"):
        assert load(tmp_path, f"source: {{url: '{url}'}}").source.url == url


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("canary-value-1", "log: {level: canary-value-1}"),
        ("canary-value-2", "reconcile: {interval: canary-value-2}"),
        ("canary-value-3", "server: {tokens: [{name: a, sha256: canary-value-3, role: viewer}]}"),
        ("canary-value-4", "state: {url: canary-value-4}"),
    ],
)
def test_a_wrong_value_is_never_repeated(value: str, line: str, tmp_path: Path) -> None:
    assert value not in str(problems(tmp_path, line))


def test_plain_http_is_for_loopback_and_allowed_hosts_only(tmp_path: Path) -> None:
    for url, allow in (
        ("http://127.0.0.1:8080", ""),
        ("http://localhost", ""),
        ("http://[::1]:1", ""),
        ("http://10.1.2.3", "10.0.0.0/8"),
        ("http://hooks.corp", "hooks.corp:8080"),
        ("http://a.corp", "'*.corp'"),
    ):
        assert load(tmp_path, f"server: {{publicUrl: '{url}'}}\nnetwork: {{allow: [{allow}]}}").server.public_url == url
    assert problems(tmp_path, "server: {publicUrl: 'http://a.b.corp'}\nnetwork: {allow: ['*.corp']}")


def test_the_default_owner_is_stable_and_different_for_every_source(tmp_path: Path) -> None:
    def owner(url: str, branch: str = "main", path: str = ".") -> str:
        return load(tmp_path, f"source: {{url: '{url}', branch: {branch}, path: {path}}}").owner

    assert owner("https://h/r") == "o" + hashlib.sha256(b"reconciler/owner/v1\0https://h/r\0main\0.").hexdigest()[:11]
    assert len({owner("https://h/r"), owner("https://h/s"), owner("https://h/r", "b"), owner("https://h/r", path="x")}) == 4


def test_a_linked_folder_keeps_its_own_name_so_that_the_owner_stays_when_the_link_moves(tmp_path: Path) -> None:
    for revision in ("r1", "r2"):
        (tmp_path / revision).mkdir()
    (tmp_path / "current").symlink_to("r1")
    first = load(tmp_path, "source: {url: current}")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("r2")
    assert load(tmp_path, "source: {url: current}") == first
    assert first.source.url == str(tmp_path / "current")


def test_paths_are_relative_to_where_a_linked_configuration_file_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "owner: a\n", "mount/..2026/reconciler.yaml")
    (tmp_path / "mount/reconciler.yaml").symlink_to("..2026/reconciler.yaml")
    assert load_config(tmp_path / "mount/reconciler.yaml", {}).state_dir == tmp_path / "mount/state"


@pytest.mark.parametrize(
    "text",
    [
        "owner: &a x\n", "owner: !!python/object:os.system x\n", "log: {<<: {level: info}}\n", "owner: a\nowner: b\n", "- a\n",
        "[" * 100_000,
        "owner: a\n---\nowner: b\n", "owner: [\n", "owner: a\x07\n", "? [a]\n: b\n", "source: " + "{a: " * 60 + "1" + "}" * 60,
        "owner: a\n" + "# " + "x" * (1 << 20), "\towner: b\n", "owner: a\u202eb\n",
    ],
)  # fmt: skip
def test_c14_a_configuration_file_is_read_strictly_and_the_place_is_named(text: str, tmp_path: Path) -> None:
    found = problems(tmp_path, text)
    assert found
    assert all(re.match(re.escape(str(tmp_path / "reconciler.yaml")) + r":\d+:\d+: .", line) for line in found)


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "reconciler.yaml").write_bytes(b"owner: a\nlog: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        load_config(None, {})
    assert str(caught.value.location).startswith("reconciler.yaml:2")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "source:\nlog: {level: }\n"])
def test_an_empty_file_and_empty_keys_are_the_defaults(text: str, tmp_path: Path) -> None:
    assert dataclasses.replace(load(tmp_path, text), path="") == _defaults(tmp_path)


def _defaults(tmp_path: Path) -> Config:
    (tmp_path / "reconciler.yaml").unlink()
    return load_config(None, {})


def test_f2_a_broken_file_on_reload_raises_and_leaves_the_loaded_configuration_as_it_was(tmp_path: Path) -> None:
    before = load(tmp_path, "reconcile: {interval: 7m}\n")
    shown = repr(before)
    for broken in ("reconcile: {interval: 7x}\n", "reconcile: [\n", "nonsense: 1\n"):
        write(tmp_path, broken)
        with pytest.raises(ConfigError):
            load_config(Path(before.path), {})
    assert repr(before) == shown
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.reconcile.interval = 1.0  # type: ignore[misc]
    write(tmp_path, "reconcile: {interval: 8m}\n")
    assert load_config(Path(before.path), {}).reconcile.interval == 480.0
    assert before.reconcile.interval == 420.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("7d", 604_800), ("0.5s", 0.5), ("1d1h1m1s", 90_061)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "5", "5 m", "m", "-5m", "5m5h", "1e3s", "٣m", "9" * 30 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration(text)


def test_sizes_are_bytes() -> None:
    assert [parse_size(text) for text in ("1000", "25MiB", "64 KiB", "1GB", "7B")] == [1000, 25 << 20, 65_536, 10**9, 7]


@given(st.binary(max_size=300) | st.text(alphabet="ab:-[]{}&*!?|>#'\" \n\t\\%@", max_size=80).map(str.encode))
def test_no_file_whatever_makes_the_reader_fail_otherwise_than_by_a_problem(data: bytes) -> None:
    tree = read_tree("f", data)
    assert tree.problems or isinstance(tree.root, dict)
    assert all(str(place).startswith("f") for place, _ in tree.problems)


def test_a_file_is_one_mapping_with_the_places_of_its_keys() -> None:
    tree = read_tree("f", b"source:\n  url: x\n")
    assert (tree.root, tree.problems) == ({"source": {"url": "x"}}, ())
    assert {path: (place.line, place.column) for path, place in tree.places.items()} == {"source": (1, 1), "source.url": (2, 3)}
    messages = {
        data: [f"{place}: {text}" for place, text in read_tree("f", data).problems] for data in (b"- 1\n", b"a: 1\n---\nb: 1\n")
    }
    assert messages == {
        b"- 1\n": ["f:1:1: must be a mapping of sections"],
        b"a: 1\n---\nb: 1\n": ["f:3:1: a second document: must be one document"],
    }
    assert read_tree("f", b"") == Tree({}, {}, ())


def test_sections_and_keys_never_overlap() -> None:
    assert not SECTIONS & set(BY_PATH)


@pytest.mark.parametrize(
    ("text", "issuer"),
    [
        ("server: {publicUrl: 'https://CI.Example.com/Team/'}", "https://ci.example.com/Team"),
        ("server: {publicUrl: 'https://ci.example.com:8443'}", "https://ci.example.com:8443"),
        ("server: {publicUrl: 'https://a.example'}\noidc: {issuer: 'https://b.example/x'}", "https://b.example/x"),
        ("", ""),
    ],
)
def test_a_public_url_is_an_issuer_in_lower_case_without_a_final_slash(tmp_path: Path, text: str, issuer: str) -> None:
    assert load(tmp_path, text).issuer == issuer


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "reconciler.yaml"
    file.write_text("owner: acme\nsource: {url: /srv/manifests}\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_config(file, {}).owner == "acme"
    for path, env in ((None, {}), (Path("reconciler.yaml"), {}), (file, {"RECONCILER_OWNER": "other"})):
        with pytest.raises(ConfigError, match="working folder does not exist"):
            load_config(path, env)
