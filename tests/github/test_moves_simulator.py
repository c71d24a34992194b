"""Repositories and organizations that move, in the simulator: what GitHub answers afterwards."""

import pytest

from reconciler.model.errors import Moved, NotFound, ReadOnly
from tests.github.conftest import put_hooks


async def test_a_former_name_redirects_until_another_repository_takes_it(api, github):
    number = (await api.request("GET", "/repos/acme/payments")).json()["id"]
    github.admin.do("rename", **{"from": "acme/payments", "to": "umbrella/pay"})
    for method, path, status in (("GET", "", 301), ("POST", "", 307), ("PATCH", "/7", 307), ("DELETE", "/7", 307)):
        with pytest.raises(Moved) as caught:
            await api.request(method, f"/repos/acme/payments/hooks{path}", json=None)
        assert (caught.value.status, f"/repositories/{number}/hooks" in caught.value.target) == (status, True)
    assert (await api.request("GET", f"/repositories/{number}")).json()["full_name"] == "umbrella/pay"
    github.admin.put_state({"repos": {"acme/payments": {}}})
    assert (await api.request("GET", "/repos/acme/payments")).json()["id"] != number


async def test_a_renamed_organization_is_404_under_its_former_name_and_its_repositories_redirect(api, github):
    number = (await api.request("GET", "/orgs/acme")).json()["id"]
    github.admin.do("rename_organization", **{"from": "acme", "to": "umbrella"})
    with pytest.raises(NotFound):
        await api.request("GET", "/orgs/acme/hooks")
    with pytest.raises(Moved):
        await api.request("GET", "/repos/acme/web/hooks")
    assert (await api.request("GET", f"/organizations/{number}")).json()["login"] == "umbrella"
    assert (await api.request("GET", f"/organizations/{number}/hooks")).json() == []


async def test_an_archived_repository_shows_its_hooks_and_refuses_every_write(api, github):
    put_hooks(github, [{"id": 7, "config": {"url": "https://ci.example.net/7"}}])
    github.admin.do("archive", repository="acme/payments")
    assert len((await api.request("GET", "/repos/acme/payments/hooks")).json()) == 1
    for method, path in (("POST", ""), ("PATCH", "/7"), ("DELETE", "/7")):
        with pytest.raises(ReadOnly, match="archived"):
            await api.request(method, f"/repos/acme/payments/hooks{path}", json={})


async def test_a_deleted_repository_is_404_under_every_name_it_had(api, github):
    github.admin.do("rename", **{"from": "acme/payments", "to": "acme/pay"})
    number = (await api.request("GET", "/repos/acme/pay")).json()["id"]
    github.admin.do("delete_repository", repository="acme/pay")
    for path in ("/repos/acme/payments", "/repos/acme/pay", f"/repositories/{number}"):
        with pytest.raises(NotFound):
            await api.request("GET", path)
