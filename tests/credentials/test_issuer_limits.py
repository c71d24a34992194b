"""The issuer at its limits: the life of keys with literals, clocks that jump, and what is published elsewhere while it changes."""

from __future__ import annotations

import pytest

from reconciler.credentials.id_tokens import CHECK_PUBLISHED_S, IdTokenIssuer, IssuerSettings
from reconciler.credentials.issuer import (
    PUBLISH_AHEAD_S,
    IssuerKey,
    Lifetimes,
    new_key,
    next_sign_from,
    published_at,
    seal,
    signing_key_at,
    subject_of,
    unseal,
)
from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.credentials.redact import Redactor
from reconciler.model.errors import SecretUnavailable, StateError, ValidationFailed
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId

T0 = 1_800_000_000.0
LIVES = Lifetimes(90 * 86_400.0, 600.0)
RING = KeyRing(MasterKey(b"k" * 32))
CLOUD = ResourceId("Integration", "default", "cloud")


def key(number: int, sign_from: float, revoked_at: float | None = None) -> IssuerKey:
    return IssuerKey(number, f"k{number}", {}, b"", "m", sign_from, sign_from, revoked_at)


def numbers(keys: tuple[IssuerKey, ...]) -> list[int]:
    return [each.number for each in keys]


def test_a_revoked_key_neither_signs_nor_is_published():
    keys = [key(1, T0), key(2, T0 + 10, revoked_at=T0 + 20)]
    assert signing_key_at(keys, T0 + 30) == keys[0]
    assert numbers(published_at(keys, T0 + 30, LIVES)) == [1]
    assert signing_key_at([key(1, T0, T0)], T0) is None


def test_the_oldest_key_signs_while_the_clock_is_set_back_before_all_of_them():
    keys = [key(1, T0), key(2, T0 + 100)]
    assert signing_key_at(keys, T0 - 600) == keys[0]


def test_an_old_key_is_published_until_its_last_token_has_ended_and_a_day_more():
    keys = [key(1, T0), key(2, T0 + 1000)]
    end = T0 + 1000 + 600 + PUBLISH_AHEAD_S
    assert numbers(published_at(keys, end - 1, LIVES)) == [1, 2]
    assert numbers(published_at(keys, end, LIVES)) == [2]


def test_a_key_that_signs_after_its_successor_is_published_from_its_own_time():
    keys = [key(1, T0 + 5000), key(2, T0)]
    assert numbers(published_at(keys, T0 + 600 + PUBLISH_AHEAD_S, LIVES)) == [1, 2]


def test_a_new_key_is_created_a_day_before_the_old_one_has_its_age():
    keys = [key(1, T0)]
    due = T0 + LIVES.rotation_s - PUBLISH_AHEAD_S
    assert next_sign_from(keys, due - 1, LIVES) is None
    assert next_sign_from(keys, due, LIVES) == T0 + LIVES.rotation_s
    assert next_sign_from([*keys, key(2, due + PUBLISH_AHEAD_S)], due + 1, LIVES) is None


def test_a_sealed_key_opens_under_its_own_id_only():
    whole = new_key(1, RING, T0, T0)
    other = IssuerKey(2, "other", whole.public, whole.sealed, whole.seal_key_id, T0, T0)
    assert unseal(whole, RING)
    with pytest.raises(StateError):
        unseal(other, RING)
    assert seal(b"x", "k", RING) != seal(b"x", "k", RING)


def test_a_shortened_subject_can_be_told_from_every_short_one():
    long = subject_of("o", ResourceId("K", "c", "n" * 300))
    assert long.count("*") == 1
    assert "*" not in subject_of("o", ResourceId("K", "c", "*"))


class MemoryStore:
    """The keys of a state, in memory, with every audit row."""

    def __init__(self) -> None:
        self.keys: list[IssuerKey] = []
        self.audit: list[AuditEntry] = []
        self.reads = 0

    async def oidc_keys(self) -> tuple[IssuerKey, ...]:
        self.reads += 1
        return tuple(self.keys)

    async def add_oidc_key(self, key: IssuerKey, *, revoke: float | None, audit: AuditEntry) -> bool:
        import dataclasses

        if any(each.number == key.number for each in self.keys):
            return False
        if revoke is not None:
            self.keys = [dataclasses.replace(each, revoked_at=each.revoked_at or revoke) for each in self.keys]
        self.keys.append(key)
        self.audit.append(audit)
        return True

    async def reseal_oidc_keys(self, keys: object) -> None:
        raise AssertionError("no key is to be sealed again")

    async def append_audit(self, entries: object) -> None:
        self.audit.extend(entries)  # type: ignore[arg-type]


class World:
    """One issuer with a clock, a redactor, and the key set that is published elsewhere."""

    def __init__(self) -> None:
        self.now, self.published, self.looks = T0, {"keys": []}, 0  # type: ignore[var-annotated]
        self.store, self.redactor, self.ring = MemoryStore(), Redactor(), RING

    def issuer(self, *, elsewhere: bool = False, read_only: bool = False) -> IdTokenIssuer:
        async def fetch(_: str) -> object:
            self.looks += 1
            return self.published

        settings = IssuerSettings("https://ci.example.com", "acme", LIVES, "daemon", elsewhere=elsewhere, read_only=read_only)
        return IdTokenIssuer(
            settings, store=self.store, ring=self.ring, redactor=self.redactor, fetch=fetch, clock=lambda: self.now
        )


async def test_the_redactor_knows_every_token_that_is_signed(monkeypatch: pytest.MonkeyPatch):
    world, known = World(), []  # type: ignore[var-annotated]
    monkeypatch.setattr(world.redactor, "add_passing", known.append)
    tokens = [(await world.issuer()(CLOUD, "aud")).reveal() for _ in range(2)]
    assert known == tokens


async def test_the_person_who_rotates_is_in_the_audit_log_and_otherwise_the_daemon():
    world = World()
    issuer = world.issuer()
    await issuer.keys()
    await issuer.rotate(emergency=True, actor="alice")
    assert [(entry.actor, entry.detail["reason"]) for entry in world.store.audit] == [
        ("daemon", "first key"),
        ("alice", "emergency"),
    ]


async def test_a_look_at_the_published_keys_is_valid_for_minutes_and_not_over_a_clock_that_is_set_back():
    world = World()
    issuer = world.issuer(elsewhere=True)
    world.published = await issuer.key_set()
    await issuer(CLOUD, "aud")
    world.now += CHECK_PUBLISHED_S - 1
    await issuer(CLOUD, "aud")
    assert world.looks == 1
    world.now += 2
    await issuer(CLOUD, "aud")
    assert world.looks == 2
    world.now -= 86_400
    await issuer(CLOUD, "aud")
    assert world.looks == 3


async def test_a_published_key_with_the_right_id_and_another_modulus_is_not_ours():
    world = World()
    issuer = world.issuer(elsewhere=True)
    (ours,) = (await issuer.key_set())["keys"]
    world.published = {"keys": [{**ours, "n": "AQAB"}]}
    with pytest.raises(SecretUnavailable, match="does not contain the key"):
        await issuer(CLOUD, "aud")


async def test_keys_that_rotate_twice_before_the_export_is_repeated_sign_nothing_until_then():
    world = World()
    issuer = world.issuer(elsewhere=True)
    world.published = await issuer.key_set()
    await issuer(CLOUD, "aud")
    await issuer.rotate(emergency=True)
    await issuer.rotate(emergency=True)
    with pytest.raises(SecretUnavailable, match="does not contain the key"):
        await issuer(CLOUD, "aud")
    world.published = await issuer.key_set()
    world.now += 61
    assert (await issuer(CLOUD, "aud")).reveal()


async def test_a_failed_look_is_repeated_after_a_minute_or_when_a_person_asks():
    world = World()
    issuer = world.issuer(elsewhere=True)
    await issuer.keys()
    for again, looks in ((lambda: None, 1), (issuer.look_again, 2), (lambda: None, 2)):
        again()
        with pytest.raises(SecretUnavailable):
            await issuer(CLOUD, "aud")
        assert world.looks == looks
    world.now += 61
    world.published = await issuer.key_set()
    await issuer(CLOUD, "aud")
    issuer.look_again()  # a look that succeeded is still valid
    await issuer(CLOUD, "aud")
    assert world.looks == 3


async def test_the_keys_are_read_again_after_five_seconds_and_when_the_clock_was_set_back():
    world = World()
    issuer = world.issuer()
    await issuer.keys()
    before = world.store.reads
    world.now += 4
    await issuer.keys()
    assert world.store.reads == before
    world.now += 2
    await issuer.keys()
    assert world.store.reads == before + 1
    world.now -= 600
    await issuer.keys()
    assert world.store.reads == before + 2


async def test_a_process_that_only_reads_seals_no_key_again():
    world = World()
    await world.issuer().keys()
    world.ring = KeyRing(MasterKey(b"n" * 32), RING.current)
    assert (await world.issuer(read_only=True)(CLOUD, "aud")).reveal()


async def test_a_second_rotation_waits_for_the_first():
    world = World()
    issuer = world.issuer()
    await issuer.keys()
    await issuer.rotate()
    with pytest.raises(ValidationFailed, match="does not sign yet"):
        await issuer.rotate()


class Racing(MemoryStore):
    """A state to which a peer adds a key just before each of the first ``races`` keys of ours."""

    def __init__(self, races: int) -> None:
        super().__init__()
        self.races = races

    async def add_oidc_key(self, key: IssuerKey, *, revoke: float | None, audit: AuditEntry) -> bool:
        if self.races:
            self.races -= 1
            self.keys.append(new_key(key.number, RING, T0, T0 + 86_400))
        return await super().add_oidc_key(key, revoke=revoke, audit=audit)


async def test_an_emergency_revokes_all_keys_even_if_a_peer_adds_others_meanwhile():
    world = World()
    await world.issuer().keys()
    racing = Racing(2)
    racing.keys = world.store.keys
    world.store = racing
    issuer = world.issuer()
    made = await issuer.rotate(emergency=True)
    assert (made.number, made.sign_from) == (4, T0)
    assert [each.number for each in racing.keys if each.revoked_at is None] == [4]
    assert [each["kid"] for each in (await issuer.key_set())["keys"]] == [made.kid]
    assert [entry.detail["kid"] for entry in racing.audit][-1] == made.kid


@pytest.mark.parametrize(
    "damage", [{"sealed": b""}, {"sealed": b"x" * 5}, {"sealed": b"x" * 60}, {"seal_key_id": "gone"}, {"public": {}}]
)
async def test_a_damaged_key_is_named_and_an_emergency_replaces_it(damage: dict[str, object]):
    import dataclasses

    world = World()
    issuer = world.issuer()
    await issuer.keys()
    world.store.keys = [dataclasses.replace(each, **damage) for each in world.store.keys]  # type: ignore[arg-type]
    world.now += 6
    with pytest.raises(StateError, match="OIDC signing key") as caught:
        await issuer(CLOUD, "aud")
    assert (caught.value.code, "--emergency" in caught.value.hint) == ("RC4021", True)
    assert len((await issuer.key_set())["keys"]) == (0 if "public" in damage else 1)
    made = await issuer.rotate(emergency=True)
    assert (await issuer(CLOUD, "aud")).reveal()
    assert [each["kid"] for each in (await issuer.key_set())["keys"]] == [made.kid]


async def test_a_damaged_old_key_does_not_stop_the_change_of_the_master_key():
    import dataclasses

    world = World()
    issuer = world.issuer()
    await issuer.keys()
    await issuer.rotate(emergency=True)
    old, new = world.store.keys
    world.store.keys = [dataclasses.replace(old, sealed=b"x" * 60), new]
    world.ring = KeyRing(MasterKey(b"n" * 32), RING.current)
    sealed: list[IssuerKey] = []

    async def reseal(keys: tuple[IssuerKey, ...]) -> None:
        sealed.extend(keys)

    world.store.reseal_oidc_keys = reseal  # type: ignore[method-assign,assignment]
    assert (await world.issuer()(CLOUD, "aud")).reveal()
    assert [each.number for each in sealed] == [2]
