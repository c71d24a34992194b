"""E-mail, against aiosmtpd: one thread for each incident, over STARTTLS, implicit TLS and plain connections."""

from __future__ import annotations

import email
import email.policy
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from reconciler.manifests.notification_spec import EmailSpec, SmtpSpec
from reconciler.model.errors import AuthFailed, Declined, ProviderUnavailable, ReconcilerError, TLSFailed
from reconciler.model.incidents import Incident, IncidentSeverity, Notice, NoticePhase, Topic
from reconciler.model.secrets import SecretValue
from reconciler.notifications.message import Message, message_of
from reconciler.notifications.sinks.base import PartlySent
from reconciler.notifications.sinks.email import Mail
from tests.notifications.notified import Notified

USER, PASSWORD = "ops", "a-password-of-mail"
HOSTILE = "<img src=x onerror=alert(1)>\r\nBcc: evil@example.com"


class Mailbox:
    """Handler and authenticator of the server."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.answer = ""
        self.refusals: dict[str, str] = {}

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if (answer := self.refusals.get(address)) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.answer:
            return self.answer
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        ok = isinstance(data, LoginPassword) and data.login == USER.encode() and data.password == PASSWORD.encode()
        return AuthResult(success=ok, handled=ok)


class MailServer:
    """One server of each kind of encryption, with one mailbox."""

    def __init__(self) -> None:
        self.box = Mailbox()
        authority = trustme.CA()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(served)
        self.trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.trusted)
        more = {"authenticator": self.box.authenticate, "auth_required": True}
        self.controllers = {
            "starttls": Controller(self.box, "127.0.0.1", 0, tls_context=served, require_starttls=True, **more),
            # aiosmtpd offers no AUTH on a connection that is encrypted from its start.
            "implicit": Controller(self.box, "127.0.0.1", 0, ssl_context=served),
            "none": Controller(self.box, "127.0.0.1", 0),
        }
        for controller in self.controllers.values():
            controller.port = _free_port()
            controller.start()

    def mail(self, tls: str = "starttls", *, password: str = PASSWORD, trusted: ssl.SSLContext | None = None) -> Mail:
        secured = tls == "starttls"
        smtp = SmtpSpec(host="127.0.0.1", port=self.controllers[tls].port, tls=tls, user=USER if secured else None)  # type: ignore[arg-type]
        spec = EmailSpec(smtp=smtp, sender="daemon@example.com", to=("a@example.com", "b@example.com"))
        secret = SecretValue(password) if secured else None
        return Mail(spec, secret, trusted or self.trusted, ("127.0.0.1",), "team-a")

    def stop(self) -> None:
        for controller in self.controllers.values():
            controller.stop()


def _free_port() -> int:
    from tests.flow.stage_world import free_port

    return free_port()


@pytest.fixture(scope="module")
def running() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def server(running: MailServer) -> MailServer:
    running.box.mails.clear()
    running.box.recipients.clear()
    running.box.answer = ""
    running.box.refusals.clear()
    return running


def message(phase: NoticePhase, title: str = "Secret/one cannot be read", text: str = "RC4010: not set") -> Message:
    incident = Incident(
        "inc-1", "Notification/default/ops", "k", Topic.SYNC_FAILED, IncidentSeverity.ERROR, title, "SecretUnavailable", text,
        members=("Secret/default/one",), opened_at=1_700_000_000, changed_at=1_700_000_060, closed_at=60.0 if phase is NoticePhase.END else 0,
    )  # fmt: skip
    return message_of(Notice(7, phase, incident))


@pytest.mark.parametrize("tls", ["starttls", "implicit", "none"])
async def test_start_and_end_are_one_thread(server: MailServer, tls: str) -> None:
    mail = server.mail(tls)
    await mail.send(message(NoticePhase.START), {})
    await mail.send(message(NoticePhase.END), {})
    start, end = server.box.mails
    assert start["Message-ID"] == "<inc-1@example.com>"
    assert end["References"] == end["In-Reply-To"] == start["Message-ID"]
    assert end["Message-ID"] != start["Message-ID"]
    assert (start["Subject"], end["Subject"]) == (
        "[team-a] Secret/one cannot be read",
        "Re: [team-a] Secret/one cannot be read",
    )
    assert server.box.recipients == [["a@example.com", "b@example.com"]] * 2


async def test_a_repeated_attempt_has_the_same_message_id(server: MailServer) -> None:
    mail = server.mail("none")
    for _ in range(2):
        await mail.send(message(NoticePhase.END), {})
    assert len({each["Message-ID"] for each in server.box.mails}) == 1


async def test_text_from_outside_is_neither_header_nor_html(server: MailServer) -> None:
    await server.mail("none").send(message(NoticePhase.START, HOSTILE, HOSTILE), {})
    [mail] = server.box.mails
    assert mail["Bcc"] is None
    page = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "<img" not in page
    assert "&lt;img" in page
    assert len(mail["Subject"]) <= 170
    assert mail["Auto-Submitted"] == "auto-generated"


async def test_a_wrong_password_is_a_refused_credential_and_is_not_shown(server: MailServer) -> None:
    with pytest.raises(AuthFailed) as raised:
        await server.mail(password="wrong-password-here").send(message(NoticePhase.START), {})
    assert "wrong-password" not in raised.value.message
    assert raised.value.code == "RC8102"


async def test_a_certificate_of_a_stranger_is_refused_before_the_password_leaves(server: MailServer) -> None:
    for tls in ("implicit", "starttls"):
        with pytest.raises((TLSFailed, ProviderUnavailable)):
            await server.mail(tls, trusted=ssl.create_default_context()).send(message(NoticePhase.START), {})
    assert server.box.mails == []


async def test_a_server_without_starttls_gets_no_password(server: MailServer) -> None:
    mail = server.mail("none")
    smtp = SmtpSpec(host="127.0.0.1", port=server.controllers["none"].port, tls="starttls", user=USER)
    spec = EmailSpec(smtp=smtp, sender=mail.spec.sender, to=mail.spec.to)
    with pytest.raises(Declined):
        await Mail(spec, SecretValue(PASSWORD), server.trusted, ("127.0.0.1",), "team-a").send(message(NoticePhase.START), {})


@pytest.mark.parametrize(
    ("answer", "kind"), [("451 try later", ProviderUnavailable), ("554 looks like spam", Declined), ("552 too large", Declined)]
)
async def test_answers_of_the_server_are_typed(server: MailServer, answer: str, kind: type[ReconcilerError]) -> None:
    server.box.answer = answer
    with pytest.raises(kind) as raised:
        await server.mail("none").send(message(NoticePhase.START), {})
    assert answer[4:] in raised.value.message


async def test_a_server_that_makes_strangers_wait_gets_the_mail_again(server: MailServer) -> None:
    server.box.refusals = dict.fromkeys(("a@example.com", "b@example.com"), "450 4.2.0 greylisted")
    with pytest.raises(ProviderUnavailable, match="greylisted"):
        await server.mail("none").send(message(NoticePhase.START), {})


@pytest.mark.parametrize(("answer", "lasting"), [("451 4.7.1 greylisted", False), ("550 5.1.1 no such user", True)])
async def test_whoever_has_the_mail_does_not_get_it_again(server: MailServer, answer: str, lasting: bool) -> None:
    server.box.refusals = {"b@example.com": answer}
    mail = server.mail("none")
    with pytest.raises(PartlySent) as raised:
        await mail.send(message(NoticePhase.START), {})
    assert raised.value.lasting is lasting
    assert "b@example.com" in raised.value.message
    server.box.refusals.clear()
    await mail.send(message(NoticePhase.START), raised.value.target)
    await mail.send(message(NoticePhase.END), raised.value.target)
    assert server.box.recipients == [["a@example.com"], ["b@example.com"], ["a@example.com", "b@example.com"]]


async def test_only_the_rest_is_tried_again_and_then_given_up(server: MailServer, notified: Notified) -> None:
    server.box.refusals = {"b@example.com": "451 4.7.1 greylisted"}
    port = server.controllers["none"].port
    notified.secret("one", None)
    notified.notification(
        "ops",
        f"""
        email:
          smtp: {{host: 127.0.0.1, port: {port}, tls: none}}
          from: daemon@example.com
          to: [a@example.com, b@example.com]
        """,
    )
    await notified.turn()
    await notified.engine.finish_pass()
    assert notified.delivering("ops").message.startswith("RC8109: ")
    notified.within.later(60)
    server.box.refusals.clear()
    await notified.send()
    assert server.box.recipients == [["a@example.com"], ["b@example.com"]]
    assert notified.notices(waiting=True) == []
    server.box.refusals = {"b@example.com": "550 5.1.1 no such user"}
    notified.set("one", "present-now")
    await notified.look()
    assert server.box.recipients[2:] == [["a@example.com"]]
    assert notified.notices(waiting=True) == []
    await notified.engine.finish_pass()
    assert "1 abandoned" in notified.delivering("ops").message


async def test_a_subject_is_folded_and_encoded_and_a_domain_is_written_as_dns_knows_it(server: MailServer) -> None:
    plain = server.mail("none")
    spec = EmailSpec(smtp=plain.spec.smtp, sender="d@bücher.example", to=("a@straße.example",))
    mail = Mail(spec, None, server.trusted, ("127.0.0.1",), "team-ä")
    await mail.send(message(NoticePhase.START, "Grüße " + "日本語" * 60), {})
    [got] = server.box.mails
    assert got["Subject"].startswith("[team-ä] Grüße 日本語")
    assert got["Message-ID"] == "<inc-1@xn--bcher-kva.example>"
    assert server.box.recipients == [["a@xn--strae-oqa.example"]] or server.box.recipients == [["a@strasse.example"]]
    assert max(len(line) for line in got.as_bytes().splitlines()) <= 998
    spec = EmailSpec(smtp=plain.spec.smtp, sender="d@example.com", to=("a@.ü.example",))
    with pytest.raises(ReconcilerError, match="is no domain"):
        await Mail(spec, None, server.trusted, ("127.0.0.1",), "t").send(message(NoticePhase.START), {})


async def test_an_address_that_is_not_allowed_is_not_connected_to(server: MailServer, tmp_path: Path) -> None:
    allowed = server.mail("none")
    refused = Mail(allowed.spec, None, allowed.tls, (), "team-a")
    with pytest.raises(ReconcilerError) as raised:
        await refused.send(message(NoticePhase.START), {})
    assert raised.value.code == "RC5023"
    assert server.box.mails == []


async def test_nothing_listens(server: MailServer) -> None:
    spec = EmailSpec(
        smtp=SmtpSpec(host="127.0.0.1", port=_free_port(), tls="none"), sender="d@example.com", to=("a@example.com",)
    )
    with pytest.raises(ProviderUnavailable):
        await Mail(spec, None, server.trusted, ("127.0.0.1",), "team-a").send(message(NoticePhase.START), {})
