"""The fields of kinds that are not Kubernetes' own and are used here: KEDA, cert-manager, Prometheus, Traefik."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}
_YES_OR_NO: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_PAIRS: Schema = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(y|w|d|h|m|s|ms))+$|^0$"}
_USAGES = (
    *("signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment"),
    *("cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth"),
)


def _object(*required: str, **properties: Schema) -> Schema:
    """A mapping with these fields and no others; ``for_`` stands for a field whose name Python has taken."""
    fields = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_SCALING = _object(
    stabilizationWindowSeconds=_NUMBER,
    selectPolicy=_one_of("Max", "Min", "Disabled"),
    policies=_list(
        _object(
            *("type", "value", "periodSeconds"), type=_one_of("Pods", "Percent"), value=_NUMBER, periodSeconds=_NUMBER
        )
    ),
)

_PROMETHEUS_TRIGGER = _object(
    *("type", "metadata"),
    type=_one_of("prometheus"),
    name=_TEXT,
    metricType=_one_of("AverageValue", "Value"),
    useCachedMetrics=_YES_OR_NO,
    authenticationRef=_object("name", name=_TEXT, kind=_TEXT),
    metadata=_object(
        *("serverAddress", "query", "threshold"),
        serverAddress={"type": "string", "pattern": "^https?://"},
        query=_TEXT,
        threshold={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        activationThreshold=_TEXT,
        ignoreNullValues=_TEXT,
        authModes=_TEXT,
        unsafeSsl=_TEXT,
    ),
)

_SCALED_OBJECT = _object(
    *("scaleTargetRef", "triggers"),
    scaleTargetRef=_object("name", name=_TEXT, apiVersion=_TEXT, kind=_TEXT),
    pollingInterval=_NUMBER,
    cooldownPeriod=_NUMBER,
    minReplicaCount={"type": "integer", "minimum": 0},
    maxReplicaCount={"type": "integer", "minimum": 1},
    fallback=_object("failureThreshold", "replicas", failureThreshold=_NUMBER, replicas=_NUMBER),
    advanced=_object(
        horizontalPodAutoscalerConfig=_object(name=_TEXT, behavior=_object(scaleUp=_SCALING, scaleDown=_SCALING))
    ),
    triggers=_list(_PROMETHEUS_TRIGGER),
)

_ISSUER = {
    **_object(selfSigned=_object(), ca=_object("secretName", secretName=_TEXT)),
    "minProperties": 1,
    "maxProperties": 1,
}

_CERTIFICATE = _object(
    *("secretName", "issuerRef"),
    secretName=_TEXT,
    isCA=_YES_OR_NO,
    commonName={"type": "string", "maxLength": 64},
    duration=_DURATION,
    renewBefore=_DURATION,
    dnsNames=_list(_TEXT),
    ipAddresses=_list(_TEXT),
    usages=_list(_one_of(*_USAGES)),
    privateKey=_object(
        algorithm=_one_of("RSA", "ECDSA", "Ed25519"), size=_NUMBER, rotationPolicy=_one_of("Never", "Always")
    ),
    issuerRef=_object("name", name=_TEXT, kind=_one_of("Issuer", "ClusterIssuer"), group=_TEXT),
)

_RELABELING = _object(
    sourceLabels=_TEXTS, separator=_TEXT, targetLabel=_TEXT, regex=_TEXT, replacement=_TEXT, action=_TEXT
)

_POD_MONITOR = _object(
    *("selector", "podMetricsEndpoints"),
    jobLabel=_TEXT,
    podTargetLabels=_TEXTS,
    selector=_object(
        matchLabels=_PAIRS,
        matchExpressions=_list(
            _object(
                "key", "operator", key=_TEXT, operator=_one_of("In", "NotIn", "Exists", "DoesNotExist"), values=_TEXTS
            )
        ),
    ),
    namespaceSelector=_object(any=_YES_OR_NO, matchNames=_TEXTS),
    podMetricsEndpoints=_list(
        _object(
            "port",
            port=_TEXT,
            path=_TEXT,
            scheme=_one_of("http", "https"),
            interval=_DURATION,
            scrapeTimeout=_DURATION,
            honorLabels=_YES_OR_NO,
            relabelings=_list(_RELABELING),
            metricRelabelings=_list(_RELABELING),
        )
    ),
)

_RULE = {
    "oneOf": [
        _object(
            *("alert", "expr"),
            alert=_TEXT,
            expr=_TEXT,
            for_=_DURATION,
            keep_firing_for=_DURATION,
            labels=_PAIRS,
            annotations=_PAIRS,
        ),
        _object("record", "expr", record=_TEXT, expr=_TEXT, labels=_PAIRS),
    ]
}

_SERVERS_TRANSPORT = _object(
    serverName=_TEXT, rootCAsSecrets=_TEXTS, insecureSkipVerify=_YES_OR_NO, disableHTTP2=_YES_OR_NO
)

SCHEMAS: dict[str, Schema] = {
    "keda.sh/v1alpha1/ScaledObject": _SCALED_OBJECT,
    "cert-manager.io/v1/Issuer": _ISSUER,
    "cert-manager.io/v1/Certificate": _CERTIFICATE,
    "traefik.io/v1alpha1/ServersTransport": _SERVERS_TRANSPORT,
    "monitoring.coreos.com/v1/PodMonitor": _POD_MONITOR,
    "monitoring.coreos.com/v1/PrometheusRule": _object(
        "groups", groups=_list(_object("name", "rules", name=_TEXT, interval=_DURATION, rules=_list(_RULE)))
    ),
}
"""Schemas of ``spec`` by apiVersion/kind."""
