"""What MarbleRun v1.9.1 answered to whole manifests and activations, recorded in `testdata/activation`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.marble import activate, activation_code
from support.pki import Identity, new_csr

TESTDATA = Path(os.environ.get("MARBLERUN_TESTDATA", Path(__file__).resolve().parents[2] / "testdata")) / "activation"
CASES = {path.stem: path for path in sorted(TESTDATA.glob("*.json"))}
CODES = {0: "OK", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 13: "INTERNAL"}

# Key sizes that our Coordinator does not generate (SAFE-13): their secrets are taken out of the case.
OTHER_SIZES = {"29-cert-templates": ["p224", "rsa1024"]}


def case(name: str) -> dict:
    return json.loads(CASES[name].read_text())


def raw_manifest(name: str) -> bytes:
    recorded = case(name)
    if "manifest_b64" in recorded:
        raw = base64.b64decode(recorded["manifest_b64"])
    else:
        package = {"app": {"UniqueID": "11" * 32}}
        big = {t: {"Package": "app", "Parameters": {"Files": {"/big": "z" * n}}} for t, n in
               [("under", 4190000), ("over", 4194304)]}
        raw = json.dumps({"Packages": package, "Marbles": big}, ensure_ascii=False, indent=1).encode()
        assert hashlib.sha256(raw).hexdigest() == recorded["manifest_sha256"], "the recipe of the case changed"
    if name in OTHER_SIZES:
        manifest = json.loads(raw)
        for secret in OTHER_SIZES[name]:
            del manifest["Secrets"][secret]
            for marble in manifest["Marbles"].values():
                files = marble["Parameters"]["Files"]
                marble["Parameters"]["Files"] = {k: v for k, v in files.items() if f".Secrets.{secret}." not in v}
        raw = json.dumps(manifest).encode()
    return raw


def user(name: str | None) -> Identity | None:
    if name is None:
        return None
    key = serialization.load_pem_private_key((TESTDATA / f"{name}.key").read_bytes(), None)
    return Identity(key, [x509.load_pem_x509_certificate((TESTDATA / f"{name}.pem").read_bytes())])


ACCEPTED = [name for name in CASES if case(name)["post_manifest"]["http"] == 200]
REFUSED = [name for name in CASES if case(name)["post_manifest"]["http"] != 200]
WITH_USERS = [name for name in ACCEPTED if any(step["op"] == "secrets" for step in case(name)["steps"])]
WITHOUT_USERS = [name for name in ACCEPTED if case(name)["steps"]]

# SAFE-3: certificates of users are compared by their DER, not by their text.
OURS_REFUSES = {"81-same-user-cert-other-text"}


@pytest.mark.rule("SET-2", "CHK-1")
@pytest.mark.parametrize("name", REFUSED)
def test_a_manifest_is_refused_as_recorded(fresh, name):
    recorded = case(name)["post_manifest"]
    answer = fresh.api().set_manifest(raw_manifest(name))
    assert (answer.status, answer.json["status"]) == (recorded["http"], recorded["jsend"]), answer.body[:600]
    assert fresh.api().code() == 2


@pytest.mark.rule("SET-3", "EP-2")
@pytest.mark.parametrize("name", [name for name in ACCEPTED if name not in OURS_REFUSES])
def test_a_manifest_is_accepted_as_recorded(fresh, name):
    data = fresh.api().set_manifest(raw_manifest(name)).ok()
    recorded = case(name)["post_manifest"]["data"]
    assert data.keys() == recorded.keys()
    assert data["RecoverySecrets"].keys() == recorded["RecoverySecrets"].keys()
    for party, text in recorded["RecoverySecrets"].items():
        assert text == f"<random, base64 of {len(base64.b64decode(data['RecoverySecrets'][party]))} bytes>"


@pytest.mark.deviation("SAFE-3")
@pytest.mark.parametrize("name", sorted(OURS_REFUSES))
def test_a_certificate_of_two_users_is_refused_in_any_text(fresh, name):
    assert fresh.api().set_manifest(raw_manifest(name)).status == 500


@pytest.mark.rule("ACT-6.1")
@pytest.mark.parametrize("name", WITHOUT_USERS)
def test_marbles_receive_what_was_recorded_until_a_user_comes_in(fresh, name):
    play(fresh, name, until_users=True)


@pytest.mark.rule("ACT-6.1", "SEC-6")
@pytest.mark.parametrize("name", WITH_USERS)
def test_marbles_receive_what_was_recorded_also_after_users_came_in(fresh, name):
    play(fresh, name, until_users=False)


def play(coordinator, name: str, *, until_users: bool) -> None:
    coordinator.api().set_manifest(raw_manifest(name)).ok()
    results = []
    for step in case(name)["steps"]:
        if until_users and step["op"] in ("secrets", "get") and step.get("user") is not None:
            return
        results.append(OPERATIONS[step["op"]](coordinator, name, step, results))


def play_activation(coordinator, name, step, results):
    sans = step["csr_sans"]
    request = {"csr": new_csr(dns=tuple(sans["dns"]), ips=tuple(sans["ip"]))}
    if step["grpc_code"] == 8:
        # The recording client refused a response above its own limit; ours has a larger one.
        received = activate(coordinator, step["type"], step["uuid"], **request)
        assert sum(len(content) for content in received.files.values()) >= 4 << 20
        return received
    if step["grpc_code"] != 0:
        assert activation_code(coordinator, step["type"], step["uuid"], **request) == CODES[step["grpc_code"]]
        return None
    received = activate(coordinator, step["type"], step["uuid"], **request)
    check_argv(received.argv, step.get("argv", []))
    left_out = OTHER_SIZES.get(name, [])
    for kind in ("files", "env"):
        recorded = {k: v for k, v in step.get(kind, {}).items() if not any(f"/{size}." in k for size in left_out)}
        values = getattr(received, kind)
        assert values.keys() == recorded.keys()
        for key, expected in recorded.items():
            check_value(f"{kind} {key}", values[key], expected, lambda step: getattr(results[step], kind)[key])
    return received


def check_argv(argv: list[str], expected) -> None:
    if isinstance(expected, dict):
        digest = hashlib.sha256("\0".join(argv).encode()).hexdigest()
        assert (len(argv), digest) == (expected["count"], expected["sha256_of_nul_joined"])
    else:
        assert argv == [text(value) for value in expected]


def text(value) -> str:
    return value if isinstance(value, str) else content(value).decode()


def content(value: dict) -> bytes:
    return base64.b64decode(value["b64"]) if "b64" in value else value["text"].encode()


def check_value(place: str, value: bytes, expected: dict, earlier) -> None:
    if "same_as_step" in expected:
        assert value == earlier(expected["same_as_step"]), place
    if not expected.get("random"):
        if "sha256" in expected:
            assert (len(value), hashlib.sha256(value).hexdigest()) == (expected["len"], expected["sha256"]), place
        else:
            assert value == content(expected), place
        return
    match expected["format"]:
        case "pem":
            check_pem(place, value, expected["pem"])
        case "bytes":
            assert len(value) == expected["len"], place
        case "hex":
            assert len(value) == expected["len"] and bytes.fromhex(value.decode()), place
        case "ttls-json":
            assert skeleton(value.decode()) == expected["skeleton"], place
        case other:
            pytest.fail(f"{place}: unknown format {other}")


def skeleton(config: str) -> str:
    """The configuration with each PEM text replaced by its label."""

    def replace(value):
        if isinstance(value, dict):
            return {key: replace(inner) for key, inner in value.items()}
        if isinstance(value, str) and value.startswith("-----BEGIN "):
            return f"<{value.split('-----')[1].removeprefix('BEGIN ')}>"
        return value

    return json.dumps(replace(json.loads(config)), separators=(",", ":"))


def check_pem(place: str, value: bytes, expected: list[dict]) -> None:
    blocks = [block for block in value.decode().split("-----BEGIN ") if block]
    assert [block.split("-----")[0] for block in blocks] == [entry["label"] for entry in expected], place
    for block, entry in zip(blocks, expected, strict=True):
        der = base64.b64decode("".join(block.split("-----")[1].split()))
        if entry["label"] == "CERTIFICATE":
            check_certificate(place, x509.load_der_x509_certificate(der), entry)
        else:
            # An RSA key's encoding may be some bytes shorter or longer: leading zeros of its numbers.
            assert abs(len(der) - entry["der_len"]) <= (8 if entry["der_len"] > 600 else 0), place


def check_certificate(place: str, certificate: x509.Certificate, expected: dict) -> None:
    assert certificate.subject.rfc4514_string() == expected["subject"], place
    assert certificate.issuer.rfc4514_string() == expected["issuer"], place
    assert certificate.signature_algorithm_oid.dotted_string == expected["sig"], place
    key = certificate.public_key()
    kind = type(key).__name__.removeprefix("_")
    size = f"-{key.key_size}" if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)) else ""
    assert kind + size == expected["key"], place
    extensions = {
        ext.oid.dotted_string + ("!" if ext.critical else ""): extension_der(ext) for ext in certificate.extensions
    }
    assert list(extensions) == list(expected["extensions_in_order"]), place
    for oid, recorded in expected["extensions_in_order"].items():
        if recorded != "random":
            assert extensions[oid].hex() == recorded, f"{place} {oid}"
    days = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() / 86400
    # A fixed end of validity makes the length depend on the day.
    if not certificate.subject.rfc4514_string() == "CN=one.example":
        assert abs(days - expected["validity_days"]) < 0.05, place


def extension_der(extension) -> bytes:
    value = extension.value
    return value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes()


def play_get(coordinator, name, step, results):
    answer = coordinator.api(user(step["user"])).get(step["path"])
    assert (answer.status, answer.json["status"]) == (step["http"], step["jsend"]), answer.body[:600]
    check_data(step["path"], answer.data, step["data"])


def check_data(place: str, value, expected) -> None:
    if isinstance(expected, dict):
        assert value.keys() == expected.keys(), place
        for key in expected:
            check_data(f"{place} {key}", value[key], expected[key])
    elif isinstance(expected, str) and expected.startswith("<random, base64 of "):
        # A signature's encoding may be a few bytes shorter or longer.
        assert abs(len(base64.b64decode(value)) - int(expected.split()[3])) <= 4, place
    elif place.endswith("updateLog"):
        lines = sorted(without_time(line) for line in value)
        assert lines == sorted(without_time(line) for line in expected), place
    else:
        assert value == expected, place


def without_time(line: str) -> str:
    entry = json.loads(line)
    assert list(entry)[:2] == ["time", "update"]
    return json.dumps({key: value for key, value in entry.items() if key != "time"}, sort_keys=True)


def play_secrets(coordinator, name, step, results):
    answer = coordinator.api(user(step["user"])).post("/api/v2/secrets", step["body"])
    assert (answer.status, answer.json["status"]) == (step["http"], step["jsend"]), answer.body[:600]


def play_restart(coordinator, name, step, results):
    coordinator.restart()
    assert coordinator.api().code() == 3


OPERATIONS = {"activate": play_activation, "get": play_get, "secrets": play_secrets, "restart": play_restart}


def test_every_recorded_case_is_played():
    assert len(CASES) == 62
    assert {step["op"] for name in CASES for step in case(name)["steps"]} <= OPERATIONS.keys()
