"""Words that scripts of MarbleRun users look for in refusals."""

import pytest
from support.manifests import managed, raise_app, secret, writes
from support.pki import user_identity

SECRETS = {"pin": secret("symmetric-key", 32, UserDefined=True)}
ROLES = {"writer": writes("pin")}


@pytest.mark.parametrize("version", [1, 2])
def test_refusals_hold_the_words_that_scripts_look_for(deployed, version):
    manifest = managed("ann", Secrets=SECRETS)
    manifest["Roles"].update(ROLES)
    manifest["Users"]["ann"]["Roles"].append("writer")
    coordinator = deployed(manifest)
    ann = coordinator.api(user_identity("ann"))
    refusals = {
        "unauthorized user": coordinator.api().cancel(version),
        "no update in progress": ann.cancel(version),
        "server is not in expected state": ann.set_manifest(manifest, version),
        "update manifest tries to downgrade SecurityVersion of the original manifest": ann.update(
            raise_app(1), version
        ),
        "declared size and actual size don't match": ann.write_secrets({"pin": {"Key": "AAAA"}}, version),
    }
    for words, answer in refusals.items():
        assert words in answer.json["message"], (words, answer.json)
    assert "no update in progress" in ann.pending(version).json["message"]
