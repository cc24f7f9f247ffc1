"""Updates: what they mean for Marbles, for recovery, and for requests at the same time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.api import ERROR_404, ERROR_500, FAIL_401, encode, unb64
from support.manifests import changed, managed, marble, raise_app, recoverable, user
from support.marble import activate
from support.pki import is_signed_by, same_public_key, user_identity
from support.recovery import open_shares, upload

UUID = "11111111-2222-3333-4444-555555555555"
INITIATED_OPEN = "Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update"
ACKNOWLEDGED = "Complete Manifest update acknowledged by user"
UPDATED = "Complete Manifest updated"


def with_argument(manifest: dict, argument: str) -> dict:
    return changed(manifest, lambda m: m["Marbles"].update(web=marble(argv=[argument])))


COUNTING = managed("ann", config={"FeatureGates": ["MonotonicCounter"]})
UPDATES = {"package-only": raise_app(4), "full": with_argument(COUNTING, "new")}


@pytest.mark.rule("AUTH-7", "CTR-2")
@pytest.mark.parametrize("update", UPDATES)
def test_a_marble_from_before_an_update_is_no_longer_known_and_its_counter_goes_on(deployed, update):
    coordinator = deployed(COUNTING)
    before = coordinator.api(activate(coordinator, uuid=UUID).identity)
    assert before.counter("c", 5).ok() == {"value": 0}
    coordinator.api(user_identity("ann")).update(UPDATES[update]).ok()
    assert before.counter("c", 6).kind == FAIL_401
    after = coordinator.api(activate(coordinator, uuid=UUID).identity)
    assert after.counter("c", 6).ok() == {"value": 5}


@pytest.mark.rule("ACT-4.6")
@pytest.mark.parametrize("update", UPDATES)
def test_a_marble_certificate_belongs_to_the_authority_of_its_time(deployed, update):
    coordinator = deployed(COUNTING)
    old = activate(coordinator)
    coordinator.api(user_identity("ann")).update(UPDATES[update]).ok()
    new = activate(coordinator)
    assert new.coordinator_root == old.coordinator_root
    assert not same_public_key(new.marble_root, old.marble_root)
    leaf, intermediate = old.chain
    assert not is_signed_by(leaf, new.marble_root)
    assert is_signed_by(leaf, intermediate) and is_signed_by(intermediate, new.coordinator_root)
    assert is_signed_by(new.leaf, new.marble_root) and is_signed_by(new.leaf, new.chain[1])


@pytest.mark.rule("UPD-5", "UPD-6")
def test_the_running_manifest_says_who_must_agree_and_how_many(deployed):
    running = managed("ann", "ben", "cy", threshold=3)
    running["Users"]["eve"] = user("eve", "raise")
    new = managed("ann", "dora", threshold=1)
    coordinator = deployed(running)
    ann, ben, cy, dora, eve = (coordinator.api(user_identity(n)) for n in ("ann", "ben", "cy", "dora", "eve"))
    answer = ann.update(new).ok()
    assert answer["missingAcknowledgments"] == 2 and sorted(answer["missingUsers"]) == ["ben", "cy"]
    assert dora.acknowledge(new).kind == FAIL_401
    assert eve.acknowledge(new).kind == ERROR_500
    ben.acknowledge(new).ok()
    assert cy.acknowledge(new).ok()["missingAcknowledgments"] == 0
    # From now on the new one does.
    assert ben.update(new).kind == FAIL_401
    assert dora.update(new).ok()["missingAcknowledgments"] == 0


@pytest.mark.rule("UPD-13", "EP-6")
@pytest.mark.parametrize(
    "before, after, is_new",
    [
        (("ab", None), ("ab", 2), False),
        (("abc", 3), ("abc", None), False),
        (("abc", None), ("abc", 2), True),
        (("abc", 2), ("abcd", 2), True),
        (("ab", None), ("ac", None), True),
    ],
    ids=["none to all", "all to none", "all to two", "one more key", "another key"],
)
def test_recovery_secrets_are_new_when_keys_or_the_effective_threshold_change(deployed, before, after, is_new):
    build = lambda parties, threshold: recoverable(*parties, threshold=threshold)  # noqa: E731
    coordinator = deployed(build(*before))
    answer = coordinator.api(user_identity("ann")).update(build(*after)).ok()
    assert ("recoverySecrets" in answer) == is_new
    if is_new:
        assert set(answer["recoverySecrets"]) == set(after[0])


@pytest.mark.rule("STA-3.16", "UPD-13")
def test_after_a_change_of_recovery_keys_only_the_new_secrets_recover(fresh):
    former = open_shares(fresh.api().set_manifest(recoverable("a", "b")).ok()["RecoverySecrets"])
    answer = fresh.api(user_identity("ann")).update(recoverable("a", "c")).ok()
    current = open_shares(answer["recoverySecrets"])
    fresh.restart_in_recovery()
    for party, share in former.items():
        assert upload(fresh.api(), party, share).kind == ERROR_500
    assert [upload(fresh.api(), party, share).ok()["remaining"] for party, share in current.items()] == [1, 0]
    assert fresh.api().code() == 3
    assert unb64(fresh.api().manifest()["manifest"]) == encode(recoverable("a", "c"))


@pytest.mark.rule("UPD-13", "STA-3.6")
def test_the_acknowledgement_that_applies_an_update_returns_the_new_recovery_secrets(deployed):
    base = managed("ann", "ben")
    new = changed(base, lambda m: m.update(RecoveryKeys=recoverable("a")["RecoveryKeys"]))
    coordinator = deployed(base)
    ann, ben = coordinator.api(user_identity("ann")), coordinator.api(user_identity("ben"))
    assert "recoverySecrets" not in ann.update(new).ok()
    assert {len(share) for share in open_shares(ben.acknowledge(new).ok()["recoverySecrets"]).values()} == {32}


@pytest.mark.rule("UPD-1")
@pytest.mark.deviation("SAFE-8", certain=False)
def test_of_updates_that_are_initiated_at_once_one_is_pending(deployed):
    coordinator = deployed(managed("ann", "ben"))
    manifests = [with_argument(managed("ann", "ben"), str(number)) for number in range(8)]
    apis = [coordinator.api(user_identity("ann")) for _ in manifests]
    with ThreadPoolExecutor(len(manifests)) as pool:
        statuses = list(pool.map(lambda api, manifest: api.update(manifest).status, apis, manifests))
    assert sorted(statuses) == [200] + [500] * 7
    accepted = manifests[statuses.index(200)]
    assert unb64(apis[0].pending().ok()["manifest"]) == encode(accepted)
    assert apis[0].events() == ["Initial manifest set", INITIATED_OPEN]


@pytest.mark.rule("STA-1.10", "UPD-14")
@pytest.mark.deviation("the last acknowledgement and the update are one transaction", certain=False)
def test_a_kill_during_the_last_acknowledgement_leaves_all_of_it_or_nothing(deployed):
    base = managed("ann", "ben")
    coordinator = deployed(base)
    ann, ben = coordinator.api(user_identity("ann")), coordinator.api(user_identity("ben"))
    with ThreadPoolExecutor(1) as pool:
        for number in range(6):
            new = with_argument(base, str(number))
            ann.update(new).ok()
            events = ann.events()
            answer = pool.submit(ben.acknowledge, new)
            # Kills at different moments: at once, and after some requests on other connections.
            for _ in range(number):
                ann.code()
            coordinator.kill()
            is_acknowledged = answer.exception() is None
            coordinator.start()
            if is_acknowledged or unb64(ann.manifest()["manifest"]) == encode(new):
                assert unb64(ann.manifest()["manifest"]) == encode(new)
                assert ann.pending().kind == ERROR_404
                assert ann.events() == [*events, ACKNOWLEDGED, UPDATED]
            else:
                assert ann.pending().ok()["missingUsers"] == ["ben"]
                assert ann.events() == events
                ben.acknowledge(new).ok()
