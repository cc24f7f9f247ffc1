"""The published description of version 2: `support/openapi.py` compares every answer of the suite with it; here are the rest."""

import pytest
from support import openapi
from support.api import Api, b64
from support.manifests import RAISE_APP, UPDATE, changed, put, reads, recoverable, secret, user, writes
from support.marble import activate
from support.pki import user_identity
from support.recovery import open_shares, upload, upload_encrypted
from test_http import ROUTES

# A genuine quote is needed, and the suite's Coordinators run without a TEE.
NEVER_SUCCEEDS = {("POST", "/api/v2/sign-quote")}


def test_each_route_of_version_2_is_described():
    routes = {(method, path) for path, methods in ROUTES.items() for method in methods if path.startswith("/api/v2/")}
    assert set(openapi.operations()) == routes


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"success","data":{"code":3,"message":"m","more":1}}',
        b'{"status":"success","data":{"code":3}}',
        b'{"status":"success","data":{"code":4,"message":"m"}}',
        b'{"status":"success","data":{"code":"3","message":"m"}}',
        b'{"status":"success","data":{"code":3,"message":"m"},"more":1}',
        b'{"status":"error","data":{"code":3,"message":"m"}}',
    ],
)
def test_an_answer_that_is_not_as_described_is_noticed(body):
    good = b'{"status":"success","data":{"code":3,"message":"m"}}'
    openapi.check("GET", "/api/v2/status", 200, "application/json", good)
    with pytest.raises(AssertionError):
        openapi.check("GET", "/api/v2/status", 200, "application/json", body)


@pytest.mark.parametrize(
    "method, path, status, content_type",
    [
        ("GET", "/api/v2/status", 202, "application/json"),
        ("GET", "/api/v2/status", 200, "text/plain; charset=utf-8"),
        ("PUT", "/api/v2/status", 200, "application/json"),
        ("GET", "/api/v2/more", 200, "application/json"),
    ],
)
def test_a_path_status_or_content_type_that_is_not_described_is_noticed(method, path, status, content_type):
    with pytest.raises(AssertionError):
        openapi.check(method, path, status, content_type, b'{"status":"success","data":{"code":3,"message":"m"}}')


def test_each_operation_succeeds_as_described(fresh, monkeypatch):
    seen = set()
    request = Api.request

    def recorded(api, method, path, *arguments):
        answer = request(api, method, path, *arguments)
        if answer.status == 200:
            seen.add((method, path.split("?")[0]))
        return answer

    monkeypatch.setattr(Api, "request", recorded)
    roles = {"update": UPDATE, "raise": RAISE_APP, "read": reads("token"), "write": writes("token")}
    manifest = recoverable(
        "ops",
        "sec",
        Secrets={"token": secret("plain", UserDefined=True)},
        Users={"ann": user("ann", *roles), "ben": user("ben", "update")},
        Roles=roles,
        Config={"FeatureGates": ["MonotonicCounter"]},
    )
    anyone, ann, ben = fresh.api(), fresh.api(user_identity("ann")), fresh.api(user_identity("ben"))
    shares = open_shares(anyone.set_manifest(manifest).ok()["RecoverySecrets"])
    anyone.code()
    anyone.chain()
    anyone.manifest()
    anyone.events()
    ann.write_secrets({"token": {"Key": b64(b"value")}}).ok()
    assert ann.secret_bytes("token") == b"value"

    wanted = changed(manifest, put("Marbles", "more", {"Package": "app"}))
    ann.update(wanted).ok()
    anyone.pending().ok()
    ann.cancel().ok()
    ann.update(wanted).ok()
    ben.acknowledge(wanted).ok()

    fresh.api(activate(fresh).identity).counter("c", 1).ok()

    fresh.restart_in_recovery()
    upload_encrypted(anyone, "ops", shares["ops"]).ok()
    upload(anyone, "sec", shares["sec"]).ok()
    assert anyone.code() == 3

    assert seen == set(openapi.operations()) - NEVER_SUCCEEDS
