"""Which URLs, paths and names are refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.codes import CODES
from reconciler.model.errors import ConfigError, SourceError
from reconciler.source import SourceOptions, check_url, errors, local_folder, normalize_path, open_source
from reconciler.source.options import check_ref, host_allowed, unsafe_name


@pytest.mark.fault
@pytest.mark.parametrize(
    "path",
    [
        "../../etc",
        "/etc",
        "..",
        "a/..",
        "a/../b",
        "a/../../b",
        "./../x",
        "~/x",
        "~root",
        "a\0b",
        "a\nb",
        "C:\\x",
        "c:/x",
        "a\\..\\b",
        ".git",
        "a/.git/hooks",
        ".GIT",
        "a/git~1",
        ".git.",
        ".g\u200cit",
        "//etc",
        "a/.git::$INDEX_ALLOCATION",
        "\x7f",
    ],
)
def test_c12_a_source_path_that_leaves_the_tree_is_refused(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalize_path(path)
    assert caught.value.code == "RC2015"


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (".", ""),
        ("", ""),
        ("./", ""),
        ("apps", "apps"),
        ("apps/", "apps"),
        ("./a//b/./c/", "a/b/c"),
        ("...", "..."),
        (".github", ".github"),
    ],
)
def test_a_good_source_path_has_one_form(path: str, normal: str) -> None:
    assert normalize_path(path) == normal


@given(st.text(max_size=40))
def test_a_normal_path_never_leaves_the_tree(path: str) -> None:
    try:
        normal = normalize_path(path)
    except ConfigError:
        return
    assert not normal.startswith("/")
    assert ".." not in normal.split("/")
    assert normalize_path(normal) == normal


@pytest.mark.fault
@pytest.mark.parametrize(
    "url",
    [
        "https://canary@github.com/a/b",
        "https://user:canary@github.com/a/b",
        "https://:canary@github.com/a/b",
        "ssh://git:canary@host/x",
        "https://github.com/a/b?token=canary",
        "https://github.com/a/b#canary",
    ],
)
def test_c24_a_url_with_a_credential_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "canary" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c touch% /tmp/x",
        "-uhttps://x",
        "--upload-pack=x",
        "git://github.com/a/b",
        "ftp://x/y",
        "http://github.com/a/b",
        "https://",
        "https:///x",
        "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y",
        "https://host:99999/x",
        "https://a/b\nc",
        "fd::17",
        "javascript://x/y",
        "https://[::1/x",
    ],
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/x.git",
        "https://git.example.com:8443/x",
        "ssh://git@github.com/acme/x",
        "git@github.com:acme/x.git",
        "/srv/manifests",
        "manifests",
        "./x",
        "file:///srv/x",
        "https://github.com/acme/$HOME",
    ],
)
def test_a_usual_url_is_taken(url: str) -> None:
    check_url(url)


def test_plain_http_needs_its_host_to_be_allowed() -> None:
    check_url("http://127.0.0.1:3000/x", ("127.0.0.0/8",))
    check_url("http://localhost/x", ("127.0.0.0/8",))
    check_url("http://git.lan/x", ("*.lan",))
    with pytest.raises(ConfigError, match="plain http") as caught:
        check_url("http://git.lan.evil.com/x", ("*.lan", "git.lan"))
    assert "network.allow" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "allow", "expected"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("::1", ("::1/128",), True),
        ("a.b", ("a.b:8080",), True),
        ("xa.b", ("a.b",), False),
        ("10.evil.com", ("10.0.0.0/8",), False),
        ("LAN", ("lan",), True),
        ("x", (), False),
    ],
)
def test_a_host_is_allowed_by_name_suffix_or_network(host: str, allow: tuple[str, ...], expected: bool) -> None:
    assert host_allowed(host, allow) is expected


@pytest.mark.parametrize(
    "ref", ["../../etc/passwd", "-x", "--all", "a b", "a\n", "HEAD^{/x}", "@{u}", "a:b", "x" * 300, "a//b", "", "a.lock"]
)
def test_a_ref_that_is_no_plain_name_is_refused(ref: str) -> None:
    with pytest.raises(SourceError):
        check_ref(ref)


def test_a_ref_that_is_a_plain_name_is_taken() -> None:
    assert [check_ref(r) for r in ("main", "HEAD~3", "v1.2", "feature/x_y", "a^")] == [
        "main",
        "HEAD~3",
        "v1.2",
        "feature/x_y",
        "a^",
    ]


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".git ", ".git.", "git~1", "GIT~1", ".gi\u200ct", ".git:x", "..", ".", "", "a/b", "a\0"]
)
def test_a_disguise_of_git_is_an_unsafe_name(name: str) -> None:
    assert unsafe_name(name)
    assert not any(unsafe_name(good) for good in (".github", "git", "a.git", ".gitignore", "git~10", "...x"))


def test_a_local_folder_is_told_from_a_remote() -> None:
    assert local_folder("file:///srv/x") == Path("/srv/x")
    assert local_folder("x/y") == Path("x/y")
    assert local_folder("https://h/x") is None
    assert local_folder("git@h:x") is None


def test_a_signature_gate_on_a_plain_folder_is_refused_not_ignored(tmp_path: Path) -> None:
    from reconciler.source import VerifyOptions

    with pytest.raises(ConfigError, match="no signatures"):
        open_source(SourceOptions(str(tmp_path), verify=VerifyOptions(tmp_path / "signers")), tmp_path)


def test_every_error_of_a_source_has_a_page() -> None:
    found = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SourceError)}
    assert len(found) >= 16
    assert found <= set(CODES)
