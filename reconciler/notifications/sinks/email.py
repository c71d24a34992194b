"""E-mail: the messages of an incident are one thread (RFC 5322: Message-ID, In-Reply-To, References).

A Message-ID is equal for every attempt to send one message. A server accepts a repetition all the same: after a crash between its
answer and our record of it, a message arrives twice, and most mail programs show it once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import format_datetime

from reconciler.drivers.http.sockets import connected
from reconciler.manifests.notification_spec import EmailSpec
from reconciler.model.errors import (
    AuthFailed,
    Declined,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    TLSFailed,
    ValidationFailed,
)
from reconciler.model.incidents import NoticePhase
from reconciler.model.printable import plain
from reconciler.model.secrets import SecretValue
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import PartlySent, Target

TIMEOUT_S = 30.0
SUBJECT = 160
PORTS = {"implicit": 465, "starttls": 587, "none": 25}
_COLOURS = {"info": "#5b6b7b", "warning": "#c98a00", "error": "#c0392b", "critical": "#8e1b12"}
_OVER = "#2e7d4f"


@dataclass(frozen=True, slots=True)
class Mail:
    """Implements `Sink`. ``allow``: ``network.allow`` of the configuration."""

    spec: EmailSpec
    password: SecretValue | None
    tls: ssl.SSLContext
    allow: tuple[str, ...]
    owner: str
    name = "email"
    phases = frozenset({NoticePhase.START, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        if message.instant and message.phase is NoticePhase.END:
            return {}
        import aiosmtplib  # only a daemon that sends mail needs it

        mail, smtp = mail_of(message, self.spec, self.owner), self.spec.smtp
        host, port = smtp.host, smtp.port or PORTS[smtp.tls]
        recipients = [ascii_address(address) for address in self.spec.to]
        if target.get("message") == message.id:
            recipients = [address for address in recipients if address in target["left"].split(",")] or recipients
        sock = await connected(host, port, self.allow, timeout_s=TIMEOUT_S)
        client = aiosmtplib.SMTP(
            hostname=host,
            sock=sock,
            use_tls=smtp.tls == "implicit",
            start_tls=smtp.tls == "starttls",
            tls_context=self.tls,
            timeout=TIMEOUT_S,
            local_hostname=domain_of(self.spec.sender),
        )
        name, sending, transport = f"{host}:{port}", False, None
        try:
            async with client:
                transport = client.transport
                if smtp.user and self.password is not None:
                    await client.login(smtp.user, self.password.reveal())
                sending = True
                refused, _ = await client.send_message(mail, sender=ascii_address(self.spec.sender), recipients=recipients)
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError, TimeoutError) as error:
            raise _typed(error, name, sending=sending) from None
        finally:
            client.close()
            if isinstance(
                transport, asyncio.Transport
            ):  # the server has the mail or not: nothing is gained by waiting for its end of TLS
                transport.abort()
                await asyncio.sleep(0)
        if refused:
            codes = {address: answer[0] for address, answer in refused.items()}
            later = [address for address, code in codes.items() if code < 500]
            first, (code, text) = next(iter(refused.items()))
            raise PartlySent(
                f"{name} refused {len(refused)} of {len(recipients)} recipients ({first}: {code} {text[:200]})",
                target={"message": message.id, "left": ",".join(later or refused)},
                lasting=not later,
            )
        return {}


def _typed(error: Exception, name: str, *, sending: bool) -> ProviderError:
    """Return the typed form of a failure; texts of the server are bounded, and never hold the password."""
    import aiosmtplib

    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        return AuthFailed(
            f"{name} refused the password ({error.code})", code="RC8102", hint="Replace the password in the Secret."
        )
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return TLSFailed(
            f"{name}: TLS refused", hint="Fix the certificate, or name your CA in `network.caBundle`; check `tls` and `port`."
        )
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return Declined(
            f"{name} does not offer what `tls` or `user` requires", code="RC8103", hint="Check `tls`, `port` and `user`."
        )
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return _all_refused([(each.recipient, each.code, str(each.message)) for each in error.recipients], name)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{name} answered {error.code}: {str(error.message)[:200]}"
        return ProviderUnavailable(text) if 400 <= error.code < 500 else Declined(text, code="RC8103")
    if sending and isinstance(error, TimeoutError | ConnectionError):
        return OutcomeUnknown(f"{name}: the connection ended before the answer; the outcome is unknown")
    if type(error) is aiosmtplib.SMTPException:  # a capability that the server lacks, such as STARTTLS
        return Declined(f"{name}: {str(error)[:200]}", code="RC8103", hint="Check `tls`, `port` and `user`.")
    return ProviderUnavailable(f"{name}: {type(error).__name__}")


def _all_refused(refused: Sequence[tuple[str, int, str]], name: str) -> ProviderError:
    recipient, code, answer = refused[0]
    text = f"{name} refused every recipient ({recipient}: {code} {answer[:200]})"
    if any(each < 500 for _, each, _ in refused):  # greylisting, or a mailbox that is full
        return ProviderUnavailable(text)
    return Declined(text, code="RC8103", hint="Check `to` in the manifest.")


def mail_of(message: Message, spec: EmailSpec, owner: str) -> EmailMessage:
    """Return the mail: text and HTML with the same content, in the thread of its incident."""
    incident = message.incident
    mail = EmailMessage(policy=WIRE)
    reply = message.phase not in {NoticePhase.START, NoticePhase.TEST}
    subject = f"[{owner}] {plain(incident.title) if reply else message.headline}"[:SUBJECT]
    # Some programs, such as Gmail, put a reply into another thread if its subject differs by more than "Re:".
    mail["Subject"] = f"Re: {subject}" if reply else subject
    mail["From"] = _address(spec.sender)
    mail["To"] = [_address(address) for address in spec.to]
    mail["Date"] = format_datetime(dt.datetime.fromtimestamp(incident.changed_at, dt.UTC))
    domain = domain_of(spec.sender)
    mail["Message-ID"] = f"<{incident.id}@{domain}>" if message.phase is NoticePhase.START else f"<{message.id}@{domain}>"
    if reply:
        mail["In-Reply-To"] = mail["References"] = f"<{incident.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.plain_text + "\n")
    mail.add_alternative(page_of(message), subtype="html")
    return mail


def page_of(message: Message) -> str:
    """Return the HTML form. Every foreign text is escaped; nothing is loaded from elsewhere."""
    over = message.phase is NoticePhase.END or message.instant
    colour = _OVER if over else _COLOURS[message.severity.value]
    rows = "".join(
        f"<tr><td style='padding:2px 12px 2px 0;color:#667'>{html.escape(label)}</td><td>{html.escape(value)}</td></tr>"
        for label, value in message.lines
    )
    text = f"<p>{html.escape(message.text)}</p>" if message.text else ""
    link = f"<p><a href='{html.escape(message.url)}'>Open</a></p>" if message.url else ""
    return (
        f"<div style='font-family:sans-serif;border-left:4px solid {colour};padding-left:12px'>"
        f"<h3 style='margin:0 0 8px'>{html.escape(message.headline)}</h3>{text}<table>{rows}</table>{link}</div>\n"
    )


def domain_of(address: str) -> str:
    """Return the domain of an address in ASCII. Raises `ValidationFailed` if it has no such form."""
    domain = address.rpartition("@")[2]
    try:
        return domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        raise ValidationFailed(f"{domain!r} is no domain", code="RC8103", hint="Check `from` and `to` in the manifest.") from None


def ascii_address(address: str) -> str:
    """Return an address with its domain as DNS knows it: a server without SMTPUTF8 takes it."""
    return f"{address.rpartition('@')[0]}@{domain_of(address)}"


def _address(text: str) -> Address:
    return Address(username=text.rpartition("@")[0], domain=domain_of(text))


__all__ = ["PORTS", "Mail", "ascii_address", "domain_of", "mail_of", "page_of"]
