"""What each driver makes of a refusal: values are final, circumstances are tried again, and a write behind a proxy is in doubt."""

import pytest

from reconciler.drivers.buddy.errors import classify as buddy
from reconciler.drivers.github.errors import classify as github
from reconciler.drivers.http.errors import Response, page_of_a_proxy, shared_error
from reconciler.drivers.semaphore.errors import classify as semaphore
from reconciler.model.errors import OutcomeUnknown, ProviderError, ProviderUnavailable, RetryKind

NOW = 1_800_000_000.0
NONE = {}


def meaning(classify, status: int, body: object, request: str = "POST /x") -> ProviderError:
    result = classify(status, NONE, body, request, now=NOW)
    return result or shared_error(Response(status, NONE, b"", request), NOW)


def hook(**row: str) -> dict[str, object]:
    return {"message": "Validation Failed", "errors": [{"resource": "Hook", **row}]}


@pytest.mark.parametrize(
    ("classify", "status", "body"),
    [
        (github, 422, hook(code="invalid", field="name")),
        (github, 422, hook(code="missing_field", field="config")),
        (github, 422, hook(code="custom", message="The URL you've entered is not valid.")),
        (github, 422, {"message": "Required input 'mandatory' not provided"}),
        (github, 422, {"message": "No ref found for: main"}),
        (github, 422, {"message": "Validation Failed", "errors": ["description is too long (maximum is 140 characters)"]}),
        (semaphore, 400, {"code": 3, "message": "Pattern /(/ is not a valid regex statement"}),
        (semaphore, 400, "Parameter 'X' is required."),
        (semaphore, 400, "Branch 'x' does not exist in the repository"),
        (buddy, 400, {"errors": [{"message": "Field 'name' is required"}]}),
        (buddy, 422, {"errors": [{"message": "Identifier is too long (max 50 characters)"}]}),
    ],
)
def test_n2_a_refusal_of_values_is_final_until_the_manifest_changes(classify, status, body):
    assert meaning(classify, status, body).retry is RetryKind.SPEC


@pytest.mark.parametrize("classify", [github, semaphore, buddy])
@pytest.mark.parametrize(
    "status", [400, 402, 403, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 417, 418, 421, 423, 424]
)
@pytest.mark.parametrize("words", ["", "nope"])
def test_n2_a_refusal_that_names_no_value_is_never_final(classify, status, words):
    body = {"errors": [{"message": words}], "message": words} if words else ""
    assert meaning(classify, status, body).retry is not RetryKind.SPEC


@pytest.mark.parametrize("classify", [github, semaphore, buddy])
@pytest.mark.parametrize("status", [425, 426, 428, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 530, 599])
def test_n2_what_happens_on_the_way_is_never_final(classify, status):
    assert meaning(classify, status, "").retry is RetryKind.BACKOFF


@pytest.mark.parametrize(
    ("classify", "status", "body"),
    [
        (github, 422, hook(code="custom", message='The "push" event cannot have more than 20 hooks')),
        (github, 422, {"message": "You have exceeded the limit of 250 inputs per plan"}),
        (github, 422, {"message": "The permissions requested are not granted to this installation."}),
        (github, 403, {"message": "Unable to disable a workflow that is not active."}),
        (semaphore, 400, {"code": 9, "message": "Secret can not be updated with API"}),
        (semaphore, 400, "Organization is suspended, the parameter cannot be used"),
        (semaphore, 422, {"message": "Project limit reached"}),
        (buddy, 400, {"errors": [{"message": "You have reached the limit of integrations in your plan"}]}),
        (buddy, 402, {"errors": [{"message": "Payment for the project is overdue"}]}),
        (buddy, 403, {"errors": [{"message": "API is disabled in this workspace"}]}),
    ],
)
def test_n2_a_limit_a_plan_or_a_right_is_tried_again_although_it_names_a_field(classify, status, body):
    assert meaning(classify, status, body).retry is RetryKind.BACKOFF


@pytest.mark.parametrize("status", [401, 403, 404, 407, 413, 422])
def test_n2_a_page_of_a_proxy_says_nothing_of_the_request(status):
    page = b"<!DOCTYPE html><html>blocked</html>"
    written = page_of_a_proxy(Response(status, NONE, page, "POST /x"))
    read = page_of_a_proxy(Response(status, NONE, page, "GET /x"))
    assert isinstance(written, OutcomeUnknown)
    assert read is not None
    assert read.retry is RetryKind.BACKOFF
    assert page_of_a_proxy(Response(status, NONE, b'{"message": "<html>"}', "POST /x")) is None


def test_n2_a_request_that_timed_out_there_is_no_refusal():
    assert isinstance(shared_error(Response(408, NONE, b"", "GET /x"), NOW), ProviderUnavailable)
