"""`docs/openapi.json` must be true: whatever a Coordinator answers on a path of version 2 is compared with it.

The published schemas leave objects open, because clients skip members that they do not know. Here they are closed: a member
that is not described is an error, and so is a status or a content type.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

from jsonschema import Draft202012Validator

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"
PREFIX = "/api/v2/"


@functools.cache
def document() -> dict:
    return json.loads(DOCUMENT.read_text())


def operations() -> dict[tuple[str, str], dict]:
    """The described operations by method and path."""
    paths = document()["paths"]
    return {(method.upper(), path): operation for path, item in paths.items() for method, operation in item.items()}


def check(method: str, path: str, status: int, content_type: str | None, body: bytes) -> None:
    """Fails if an answer is not as described; `path` may have a query."""
    path = path.split("?")[0]
    if not path.startswith(PREFIX) or method == "HEAD":
        return
    operation = operations().get((method, path))
    where = f"{method} {path}, status {status}"
    if operation is None:
        assert status == 405, f"{where}: the operation is not described"
        validator(json.dumps({"$ref": "#/components/schemas/Error"})).validate(json.loads(body))
        return
    response = operation["responses"].get(str(status))
    assert response, f"{where}: the status is not described"
    media = response["content"].get(content_type or "")
    assert media, f"{where}: the content type {content_type!r} is not described"
    schema = media["schema"]
    if "contentSchema" in schema:
        assert schema["contentMediaType"] == "application/json"
        schema = schema["contentSchema"]
    errors = [f"{error.json_path}: {error.message}" for error in validator(json.dumps(schema)).iter_errors(json.loads(body))]
    assert not errors, f"{where}: {errors}"


@functools.cache
def validator(schema: str) -> Draft202012Validator:
    whole = closed(json.loads(schema)) | {"components": closed(document()["components"])}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def closed(schema):
    """A copy in which objects have no members but those that are described."""
    schema = copy.deepcopy(schema)
    _close(schema)
    return schema


def _close(node) -> None:
    if isinstance(node, list):
        for element in node:
            _close(element)
    elif isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
        for element in list(node.values()):
            _close(element)
