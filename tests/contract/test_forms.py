"""Every provider with every form of authentication: it connects and is checked, or the refusal of the manifest says why.

Then what each form makes of an answer that is no answer: nothing of it is ever "valid", and nothing is repeated at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

import pytest
import yaml

from reconciler.config.settings import Config
from reconciler.credentials.backends import SecretResolver
from reconciler.drivers.auth import TokenCache
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, Bounds, HttpSession
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.registry import DRIVERS
from reconciler.drivers.specs import SPECS
from reconciler.engine.connections import Client
from reconciler.engine.credential_check import check_credential
from reconciler.engine.credentials import QUESTIONS, answers_of
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.manifests import SourceFile, load, schema
from reconciler.model.errors import AuthFailed, ProviderUnavailable, RateLimited, ReconcilerError
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.sandbox.server import SandboxServer
from tests.support.authentication import auth_context
from tests.support.driving import resource
from tests.support.forms import FORMS, Form, Trust, Values, ref
from tests.support.relying import ISSUER, Issuing, issuing

TABLE = {
    "token": {"semaphore", "github", "gitlab", "buddy", "digitalocean", "newrelic", "spinnaker"},
    "oidc": {"aws", "azure", "google", "buddy"},
    "github-app": {"github"},
    "basic": {"dockerhub", "spinnaker", "github"},
    "access-key": {"aws"},
    "client-secret": {"azure"},
    "service-account-key": {"google"},
    "none": {"spinnaker"},
}
"""What users are promised: form → providers."""
BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "token": {"token": ref("k")},
    "oidc": {"oidc": {}},
    "github-app": {"githubApp": {"appId": 1, "privateKey": ref("k")}},
    "basic": {"basic": {"username": "u", "password": ref("k")}},
    "access-key": {"accessKey": {"id": ref("k"), "secret": ref("k")}},
    "client-secret": {"clientSecret": {"tenantId": "t", "clientId": "c", "secret": ref("k")}},
    "service-account-key": {"serviceAccountKey": ref("k")},
    "none": {},
}
_SPEC = schema.schema("Integration")["properties"]["spec"]["properties"]
TYPES = [name for name in _SPEC["type"]["enum"] if name.islower()]
USES = [name for name in _SPEC["auth"]["properties"]["use"]["enum"] if not name.startswith("AUTH_TYPE")]
MAX_BYTES = 1 << 16
PAGE = "<!doctype html><html><body>Sign in</body></html>"
HTML = {"content-type": "text/html"}
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "401": {"status": 401, "body": {"message": "no"}},
    "403": {"status": 403, "body": {"message": "no"}},
    "404": {"status": 404, "body": {"message": "no"}},
    "429": {"status": 429, "body": {"message": "slowly"}, "headers": {"retry-after": "40"}},
    "500": {"status": 500, "body": {"message": "sorry"}},
    "503-page": {"status": 503, "body": PAGE, "headers": HTML},
    "403-page": {"status": 403, "body": PAGE, "headers": HTML},
    "page": {"status": 200, "body": PAGE, "headers": HTML},
    "empty": {"status": 200},
    "huge": {"status": 200, "body": {"x": "y" * (MAX_BYTES + 1)}},
    "list": {"status": 200, "body": [1, None]},
    "other": {"status": 200, "body": {"login": 5, "account": [], "data": {"actor": 5}, "access_token": 5, "username": 7}},
    "text": {"status": 200, "body": "ok"},
    "broken": {"effect": "malformed"},
    "reset": {"effect": "reset"},
}


class Tried:
    """One form at its peer."""

    def __init__(self, form: Form, server: SandboxServer, session: HttpSession, issuer: Issuing) -> None:
        self.form, self.server, self._session, self._issuer = form, server, session, issuer
        self.driver: Any = DRIVERS[form.provider]
        subject = f"reconciler:team-a:default:Integration:{form.provider}"
        self.values: Values = form.prepare(server, Trust(ISSUER, issuer.url, subject))
        spec = {"type": form.provider, **form.spec, "apiUrl": server.url, "auth": form.auth_with(self.values)}
        declared = resource("Integration", form.provider, spec, secrets=["credentials"])
        self.connection = self.driver.connect(declared, declared.secret_refs("/auth"))
        self.start_again()

    def start_again(self) -> None:
        """Forget what was exchanged and refused, as a new process does; repair the peer."""
        context = auth_context(
            lambda key: SecretValue(self.values[key.key]),
            session=self._session,
            id_token=self._issuer.issuer,
            tokens=TokenCache(time.time),
        )
        budget = Budget(self.connection.credential_id, self.driver.limits, store=None, clock=time.time)
        signer = self.driver.authenticator(self.connection, context)
        api = ApiClient(self.connection, self.driver, signer, session=self._session, budget=budget, clock=time.time)
        self._link = Client(self.connection, self.driver, api, budget, cast("SecretResolver", None))
        self.server.admin.clear_faults()
        self.server.admin.clear_requests()

    async def check(self) -> CredentialReport | ReconcilerError:
        try:
            return await check_credential(self._link, ActiveRevision(), Config())
        except ReconcilerError as error:
            return error

    def sent(self) -> int:
        return len(self.server.admin.requests())


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuing]:
    with issuing() as running:
        yield running


@pytest.fixture(params=FORMS, ids=lambda form: form.name)
async def tried(request: pytest.FixtureRequest, issuer: Issuing) -> AsyncIterator[Tried]:
    form: Form = request.param
    with SandboxServer(form.simulator()) as server:
        async with HttpSession(allow=("127.0.0.1",), bounds=Bounds(max_bytes=MAX_BYTES)) as session:
            yield Tried(form, server, session, issuer)


def problems_of(provider: str, use: str, spec: Mapping[str, Any]) -> list[Any]:
    url = {"github": "https://github.com/acme", "semaphore": "https://acme.semaphoreci.com"}.get(provider, "https://x.example")
    documents = [
        {"kind": "Secret", "metadata": {"name": "credentials"}, "spec": {"provider": "env", "data": {"k": {"env": "K"}}}},
        {"kind": "Integration", "metadata": {"name": "i"}, "spec": {"type": provider, "url": url, "auth": {"use": use, **spec}}},
    ]
    text = yaml.safe_dump_all(documents).encode()
    return [problem for problem in load([SourceFile("a.yaml", "0" * 40, text)], revision="r").problems if problem.is_error]


def test_the_table_of_forms_is_what_the_records_drivers_and_tests_know() -> None:
    assert set(TYPES) == set(SPECS)
    assert set(USES) == set(TABLE) == set(BLOCKS)
    promised = {(provider, use) for use, providers in TABLE.items() for provider in providers}
    assert {(spec.name, use) for spec in SPECS.values() for use in spec.auth} == promised
    assert {
        (name, use) for name in SPECS for use in vars(type(DRIVERS[name])).get("pointers", ProviderDriver.pointers)
    } == promised
    assert {(form.provider, form.use) for form in FORMS} == promised


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_with_every_form_is_accepted_or_refused_with_the_reason(kind: str, use: str) -> None:
    found = problems_of(kind, use, BLOCKS[use])
    if kind not in TABLE[use]:
        (problem,) = found
        assert (problem.code, problem.pointer) == ("RC1205", "/spec/auth/use")
        assert f"{kind} cannot authenticate with {use}" in problem.message
        assert any(other in problem.hint for other in SPECS[kind].auth), problem.hint  # the way out
    elif use == "oidc":
        assert {problem.code for problem in found} == {"RC1203"}  # the provider's own part
        assert {key for key in SPECS[kind].oidc_needs if any(f"needs {key}" in each.message for each in found)} == set(
            SPECS[kind].oidc_needs
        )
    else:
        assert found == []


async def test_each_form_connects_and_answers_five_questions(tried: Tried) -> None:
    report = await tried.check()
    assert isinstance(report, CredentialReport), report
    answers = answers_of(ReconcileResult(tried.connection.integration, credential=report))
    assert answers is not None
    assert answers.valid
    assert "valid" not in answers.unknown
    assert answers.identity
    told = {"granted": answers.granted, "missing": "granted" not in answers.unknown, "expiresAt": answers.expires_at}
    for question in QUESTIONS[2:]:
        assert told[question] or answers.unknown.get(question), question
    for value in tried.values.values():
        assert len(value) < 8 or value not in repr(answers)
    first = tried.sent()
    assert first >= 1
    assert isinstance(await tried.check(), CredentialReport)
    assert tried.sent() - first <= first  # what was exchanged is kept


async def test_an_answer_that_is_none_has_its_own_condition_and_is_never_valid(tried: Tried) -> None:
    said: dict[str, str] = {}
    for fault, options in FAULTS.items():
        tried.start_again()
        tried.server.admin.fault(times=0, **options)
        got = await tried.check()
        calls = tried.sent()
        said[fault] = text = got.message if isinstance(got, CredentialReport) else f"{got.message} {got.hint}"
        assert 1 <= calls <= 3, (fault, "a read is sent three times at most")
        assert not any(value in text for value in tried.values.values() if len(value) >= 8), fault
        assert _means(fault, got), (fault, got)
        if fault == "429":
            assert calls == (2 if "service-account-key" in tried.form.name else 1)  # certificates and tokens have different hosts
        if tried.form.exchanged:
            await tried.check()
            sent = [row["path"] for row in tried.server.admin.requests()]
            assert len(sent) == calls, (fault, "a token endpoint is asked once a minute", sent)
    different = [said[fault] for fault in ("401", "403", "404", "429", "500", "page", "huge", "reset")]
    assert len(set(different)) == len(different), said


def _means(fault: str, got: CredentialReport | ReconcilerError) -> bool:
    """Whether ``got`` is what the answer of ``fault`` means: refused, limited, unavailable, or nothing that is known."""
    if isinstance(got, CredentialReport):
        if fault == "403" and got.missing:
            return True  # known to lack a right, which is no good answer either
        unknown = set(QUESTIONS) <= set(got.unknown) and got.message.startswith("not checked: ")
        return unknown and fault not in {"401", "429", "500", "503-page", "reset"}
    if fault == "401":
        return isinstance(got, AuthFailed)
    if fault == "429":
        return isinstance(got, RateLimited) and got.retry_at is not None and 30 <= got.retry_at - time.time() <= 50
    if fault in {"500", "503-page", "reset"}:
        return isinstance(got, ProviderUnavailable)
    return fault in {"403", "404", "403-page"} or not isinstance(got, AuthFailed)
