"""Who can write to the database can compute every hash of the audit log again: signatures and an anchor tell it all the same."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from reconciler.model.codec import encode
from reconciler.state import Store, tables
from reconciler.state.audit_walk import GENESIS, Anchor, link
from reconciler.state.values import AuditKey
from tests.state.samples import entry
from tests.state.test_contract import unprotect

OLD, NEW, OTHER = AuditKey("old", b"o" * 32), AuditKey("new", b"n" * 32), AuditKey("new", b"x" * 32)


@pytest.fixture
def signed(store: Store) -> Store:
    store.use_audit_keys([NEW])
    store.append_audit([entry(external_id=str(number)) for number in range(6)])
    store.keep_anchor()
    return store


def rewrite(store: Store, first: int, key: AuditKey | None = None) -> None:
    """Write the log again from row ``first`` on, with another content and every hash as it should be."""
    unprotect(store)
    a = tables.audit
    with store._write() as connection:
        rows = connection.execute(a.select().order_by(a.c.seq)).all()
        prev = GENESIS
        for row in rows:
            payload = encode(entry(external_id="forged")) if row.seq >= first else bytes(row.payload)
            digest = link(prev, row.seq, payload)
            values = {"prev": prev, "hash": digest, "payload": payload}
            if row.seq >= first:
                values["mac"] = key.mac(digest) if key is not None else ""
            connection.execute(update(a).where(a.c.seq == row.seq).values(values))
            prev = digest


def cut(store: Store, last: int) -> None:
    unprotect(store)
    with store._write() as connection:
        connection.execute(delete(tables.audit).where(tables.audit.c.seq > last))


@pytest.mark.parametrize("first", [1, 3, 6])
def test_n33_a_log_that_was_written_again_does_not_hold(signed: Store, first: int) -> None:
    assert signed.verify_audit().ok
    rewrite(signed, first)
    report = signed.verify_audit()
    assert (report.ok, report.fault, report.first_bad_seq) == (False, "unsigned", first)
    assert "rewritten" in str(report)


@pytest.mark.parametrize("first", [1, 4])
def test_n33_a_log_that_was_signed_with_another_key_does_not_hold(signed: Store, first: int) -> None:
    rewrite(signed, first, OTHER)
    report = signed.verify_audit()
    assert (report.ok, report.fault, report.first_bad_seq) == (False, "rewritten", first)


def test_n33_a_log_that_was_written_again_and_goes_on_does_not_hold(signed: Store) -> None:
    rewrite(signed, 3)
    signed.append_audit([entry()])  # the daemon signs its next row, which stands on the forged ones
    report = signed.verify_audit()
    assert (report.ok, report.fault, report.first_bad_seq) == (False, "unsigned", 3)


def test_n33_a_log_without_a_single_signature_is_neither_sealed_nor_taken_for_one_of_an_older_version(signed: Store) -> None:
    rewrite(signed, 1)
    assert not signed.seal_audit(entry("seal"))  # rows were signed here before
    signed.append_audit([entry()])
    report = signed.verify_audit()
    assert (report.ok, report.fault, report.first_bad_seq) == (False, "unsigned", 1)


def test_n33_a_cut_log_is_told_from_a_rewritten_one_by_the_kept_anchor(signed: Store) -> None:
    cut(signed, 4)
    assert signed.verify_audit().ok  # what is left is whole
    kept = signed.kept_anchor()
    assert kept is not None
    report = signed.verify_audit(anchors=[kept])
    assert (report.fault, report.first_bad_seq, report.expected) == ("truncated", 5, 6)
    assert str(report) == "truncated: rows 5 to 6 are missing"


def test_n33_an_emptied_log_is_found_by_its_anchor(signed: Store) -> None:
    cut(signed, 0)
    kept = signed.kept_anchor()
    assert kept is not None
    assert signed.verify_audit(anchors=[kept]).fault == "truncated"


def test_n33_the_anchor_is_private_and_cannot_be_replaced_without_the_key(signed: Store, tmp_path: Path) -> None:
    path = tmp_path / "audit.anchor"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signed.kept_anchor() == Anchor(*signed.audit_head())
    path.write_text(path.read_text().replace('"seq":6', '"seq":3'))
    with pytest.raises(ValueError, match="not signed"):
        signed.kept_anchor()
    for text in ("[]", "no json", "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"."):
            signed.kept_anchor()


def test_n33_rows_from_before_the_key_are_proved_by_the_seal(store: Store) -> None:
    store.append_audit([entry(external_id=str(number)) for number in range(3)])  # by the version before
    store.use_audit_keys([NEW])
    assert store.verify_audit().fault == "unsigned"
    assert store.seal_audit(entry("seal"))
    assert not store.seal_audit(entry("seal"))
    assert store.verify_audit().ok
    rewrite(store, 2)
    assert not store.verify_audit().ok


def test_n33_a_changed_key_seals_what_the_key_before_signed(store: Store) -> None:
    store.use_audit_keys([OLD])
    store.append_audit([entry(), entry()])
    store.use_audit_keys([NEW, OLD])
    assert store.seal_audit(entry("seal"))
    store.use_audit_keys([NEW])  # the old key is gone; the chain below the seal proves its rows
    assert store.verify_audit().ok
    rewrite(store, 1, None)
    assert not store.verify_audit().ok


def test_n33_an_anchor_that_the_log_contradicts_is_not_moved(signed: Store) -> None:
    kept = signed.kept_anchor()
    cut(signed, 4)
    assert signed.keep_anchor() is None  # a restart must not wipe out the only proof
    assert signed.kept_anchor() == kept
    signed.append_audit([entry(), entry(), entry()])
    assert signed.keep_anchor() is None
    assert signed.verify_audit(anchors=[kept] if kept else []).fault == "rewritten"


def test_n33_a_state_that_is_made_again_begins_with_an_anchor_of_its_own(signed: Store, tmp_path: Path) -> None:
    other = Store.open(f"sqlite:///{tmp_path / 'again.db'}", state_dir=tmp_path)
    other.use_audit_keys([NEW])
    assert other.kept_anchor() is None
    assert other.keep_anchor() == Anchor(0, GENESIS)
    other.close()
