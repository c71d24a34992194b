"""``export``: whatever a provider says stays a value or a comment of the one document that it belongs to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.export import _document
from reconciler.manifests.text import FORBIDDEN
from reconciler.manifests.yaml import load_documents
from reconciler.model.objects import ObservedObject, Scope
from reconciler.model.resources import ResourceId
from reconciler.model.values import ExternalId
from tests.engine.world import World

INTEGRATION = ResourceId("Integration", "default", "github")
STAGE = "\n---\nkind: Stage\nmetadata: {name: evil}\nspec: {connections: [], executor: {type: noop}}\n"
HOSTILE = (
    STAGE, "\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\n---\n", "\n...\n", "# ", ": ", "- ", "&a", "*a", "!!python/object:x", "'", '"',
    "\\", "%YAML 1.2\n", "{", "}", "[", "]", "|", ">", "\x00", "\x1b[31m", "\u202e", "\u200b", "\ufeff", "\ud800", "null", "yes", "0x1f", "1e3",
    "~", "<<", "\t", " ",
)  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=5)), min_size=1, max_size=6).map("".join)


def observed(external_id: str, name: str, /, **attributes: object) -> ObservedObject:
    return ObservedObject(external_id=ExternalId(external_id), attributes=attributes, natural_key=name)  # type: ignore[arg-type]


@given(texts)
def test_n12_an_export_is_one_document_whatever_a_provider_says(text: str) -> None:
    cases = [
        (Scope("github/repository-webhook", f"acme/{text}"), observed(text, text, events=["push", text], config={"url": f"https://x/{text}"})),
        (Scope("buddy/integration", text), observed(text, text, identifier=text, name=text, type=text, permissions={"users": [{"name": text}]})),
        (Scope("buddy/webhook", text), observed(text, text, events=[text], target_url=text)),
        (Scope("semaphore/notification", text), observed(text, text, rules=[{"filter": {"projects": [text]}}])),
    ]  # fmt: skip
    for scope, one in cases:
        written = _document(INTEGRATION, scope, one)
        assert not FORBIDDEN.search(written), ascii(written)
        documents, broken = load_documents(written.encode())
        assert not broken
        assert len(documents) == 1, written
        assert not [problem for problem in documents[0].problems if problem.code not in {"RC1004", "RC1015"}], written
        assert list(documents[0].value) == ["apiVersion", "kind", "metadata", "spec"]
        assert documents[0].value["kind"] in {"EventSource", "BuddyIntegration"}


def test_n12_a_hook_whose_url_is_a_manifest_exports_no_second_document(world: World) -> None:
    hook = {
        "id": 77,
        "name": "web",
        "active": True,
        "events": ["push"],
        "config": {"url": f"https://ci.example/x{STAGE}", "content_type": "json", "insecure_ssl": "0"},
    }
    world.set_hooks("one", [hook])
    world.source("two")
    assert world.cli("apply", "--yes").returncode == 0
    done = world.cli("export", "github", "--scope", "acme/one")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("kind:")] == ["kind: EventSource"]
    target = world.folder / "exported.yaml"
    assert world.cli("export", "github", "--scope", "acme/one", "--out", str(target)).returncode == 0
    assert target.read_text() == done.stdout
