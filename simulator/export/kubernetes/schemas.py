"""Manifests against schemas: Kubernetes' own by `kubernetes-validate`; of custom resources, which it does not have, by
schemas of our own.

Those hold exactly the fields that we write, as the API references of LeaderWorkerSet v1 and KEDA v1alpha1 name them
(read 2026-11): a fallback that finds a misspelt or missing field, not a wrong idea of theirs. Pod templates inside a
LeaderWorkerSet are checked as pods of Kubernetes.
"""

from typing import Any

import jsonschema

from simulator.errors import ServelabError

VERSION = "1.33"
FALLBACK = (
    "LeaderWorkerSet and ScaledObject are checked against schemas of servelab's own: their fields and types, no more"
)

_TEMPLATE = {
    "type": "object",
    "required": ["metadata", "spec"],
    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
}


def _resource(api: str, kind: str, spec: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": api},
            "kind": {"const": kind},
            "metadata": {"type": "object", "required": ["name"]},
            "spec": {"type": "object", "required": required, "additionalProperties": False, "properties": spec},
        },
    }


_COUNT = {"type": "integer", "minimum": 0}
CUSTOM = {
    "LeaderWorkerSet": _resource(
        "leaderworkerset.x-k8s.io/v1",
        "LeaderWorkerSet",
        {
            "replicas": _COUNT,
            "leaderWorkerTemplate": {
                "type": "object",
                "required": ["size", "workerTemplate"],
                "additionalProperties": False,
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "restartPolicy": {"enum": ["RecreateGroupOnPodRestart", "None"]},
                    "leaderTemplate": _TEMPLATE,
                    "workerTemplate": _TEMPLATE,
                },
            },
        },
        ["leaderWorkerTemplate"],
    ),
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        {
            "scaleTargetRef": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {k: {"type": "string"} for k in ("apiVersion", "kind", "name")},
            },
            "minReplicaCount": _COUNT,
            "maxReplicaCount": _COUNT,
            "idleReplicaCount": _COUNT,
            "pollingInterval": _COUNT,
            "cooldownPeriod": _COUNT,
            "initialCooldownPeriod": _COUNT,
            "advanced": {"type": "object"},
            "triggers": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["type", "metadata"],
                    "properties": {
                        "type": {"type": "string"},
                        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                    },
                },
            },
        },
        ["scaleTargetRef", "triggers"],
    ),
}


def validate(manifest: dict[str, Any]) -> None:
    """Raise ServelabError, naming kind, name and place, for a manifest that its schema refuses."""
    kind = str(manifest.get("kind"))
    if kind not in CUSTOM:
        _kubernetes(manifest)
        return
    try:
        jsonschema.validate(manifest, CUSTOM[kind])
    except jsonschema.ValidationError as problem:
        raise _refused(manifest, problem.absolute_path, problem.message) from None
    if kind == "LeaderWorkerSet":
        for part in ("leaderTemplate", "workerTemplate"):
            template = manifest["spec"]["leaderWorkerTemplate"].get(part)
            if template:
                _kubernetes(
                    {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod", **template["metadata"]}}
                )


def _kubernetes(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as problem:
        raise _refused(manifest, getattr(problem, "path", ()), problem.message) from None
    except kubernetes_validate.SchemaNotFoundError:
        raise ServelabError(
            f"{manifest.get('apiVersion')} {manifest.get('kind')}: no schema to check it against"
        ) from None


def _refused(manifest: dict[str, Any], path: Any, message: str) -> ServelabError:
    name = (manifest.get("metadata") or {}).get("name", "")
    place = ".".join(map(str, path)) or "manifest"
    return ServelabError(f"{manifest.get('kind')} {name!r}: {place}: {message}")
