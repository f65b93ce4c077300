"""Whether every object is what Kubernetes, or the operator that reads it, takes: strictly, unknown fields are wrong."""

from __future__ import annotations

import json
from functools import cache

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

from k8s_check.custom_kinds import SCHEMAS
from k8s_check.manifests import Manifests, Object

VERSIONS = ("1.32", "1.35", "1.37")
"""The oldest, one between, and the newest Kubernetes that manifests are checked against."""

# The library reads its definitions anew for each object.
_read = cache(utils.schema_contents)
utils.schema_contents = _read


def kubernetes(manifests: Manifests) -> list[str]:
    """Objects of Kubernetes' own kinds fit its schemas; all others are of kinds whose fields are known here."""
    return [
        problem
        for each in manifests.objects
        for version in VERSIONS
        if (problem := _problem(json.dumps(each, sort_keys=True), version))
    ]


@cache
def _problem(text: str, version: str) -> str:
    each: Object = json.loads(text)
    name = f"{each['kind']} {each['metadata']['name']}"
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return _custom_problem(name, each)
    except kubernetes_validate.ValidationError as error:
        return f"{name} is wrong for Kubernetes {version}: {_place(error)}: {error.message}"
    return ""


def _custom_problem(name: str, each: Object) -> str:
    schema = SCHEMAS.get(f"{each['apiVersion']}/{each['kind']}")
    if schema is None:
        return f"{name} is of a kind that nobody here knows: {each['apiVersion']} {each['kind']}"
    found = next(jsonschema.Draft202012Validator(schema).iter_errors(each["spec"]), None)
    return f"{name} is wrong: {_place(found)}: {found.message}" if found else ""


def _place(error: jsonschema.ValidationError) -> str:
    return ".".join(str(part) for part in error.path) or "the object"
