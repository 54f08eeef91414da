"""Examples for the OpenAPI document: made from each schema, with values a reader knows from one story.

One tenant, `acme`, sends for `shop.example`; a field of a new name needs its value in the table here, or a test fails.
"""

from collections.abc import Mapping
from typing import Any

INSTANCE = "5f1d2c3b-7a48-4d0e-9b61-2f3c4d5e6f70"
CONFIGURATION = "7d9f2f0e-3b61-4f0e-8d5c-2b1a09f8e7d6"
QUEUE_ID = "01KQSDR2G08ZQ4T7B9XJ2M6C3WFVNR"
ZONE = "0123456789abcdef0123456789abcdef"
RULE = "fedcba9876543210fedcba9876543210"
AT = "2026-01-31T12:00:00Z"
NAME = "shop.example"
DEPTH = 6
"""Objects within objects; beyond that an example would explain nothing."""

VALUES: Mapping[str, Any] = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…", "account_id": INSTANCE, "action": "retry",
    "action_id": "event-notifications.smtp-config.read", "address": "203.0.113.7", "advice": "renew the certificate",
    "api_key": "pl_3kq9_…", "api_type_id": "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration",
    "banner": "jira.shop.example", "bounces_and_complaints": "Removed from our lists at once", "by": "key:3kq9",
    "ending_by": "key:3kq9",
    "check": "certificate", "client": "python-requests/2.32", "client_address": "203.0.113.7", "code": 451,
    "configuration": CONFIGURATION, "configuration_id": CONFIGURATION, "contacts": ["mail@shop.example"],
    "created_by": "key:3kq9", "created_by_id": "key:3kq9", "crn": f"crn:v1:bluemix:public:…:{INSTANCE}::",
    "decided_by": "key:3kq9", "delegated_to": "dkim.relay.example", "description": "orders and invoices",
    "detail": "the SPF record of shop.example includes this relay", "display_name": "SMTP configuration",
    "domain": NAME, "ed25519_selector": "7d9f2f0e-ed25519", "email_address": "ann@inbox.example",
    "email_to": "ann@inbox.example", "endpoint": "public", "enhanced": "4.7.1",
    "error_message": "550 5.1.1 no such user", "errorCode": "BXNIM0415E",
    "errorMessage": "Provided API key could not be found.", "evidence": [], "gte": "2026-01-30T12:00:00Z",
    "host": "mx.inbox.example", "href": f"https://relay.example/v1/zones/{ZONE}",
    "html_validation": "Templates are checked in CI", "id": CONFIGURATION, "If-Match": "7", "instance": INSTANCE,
    "instance_id": INSTANCE, "ip_address": "198.51.100.25", "key": "submitted", "key_as_string": AT, "key_id": "3kq9",
    "kind": "verified", "last_modified_by_id": "key:3kq9", "list_cleaning": "Every week", "list_source": "Customers",
    "lte": AT, "message_id": "<1@shop.example>", "missing": [], "name": "orders", "networks": ["203.0.113.0/24"],
    "next_selector": "c0ffee00", "notes": [], "number": 1, "operator": "stringEquals", "outgoing": ["198.51.100.25"],
    "password": "shown-this-once-and-never-again.", "password_id": "b7c1", "phase": "rcpt",
    "private": "smtp.private.example:587", "private_tls": "smtp.private.example:465", "process": "ingress-1",
    "public": "relay.example:587", "public_tls": "relay.example:465", "queue_id": QUEUE_ID,
    "quota_rationale": "A thousand orders an hour", "rcode": "NOERROR", "reason": "agreed by telephone",
    "recipient": "ann@inbox.example", "recipients": ["ann@inbox.example"], "redirect_to": "",
    "reference": "R-7K2M9Q4X1A", "refresh_token": "not_supported", "region": "eu", "reply_to": "bounces@shop.example",
    "resolver": "9.9.9.9", "retired_selector": "5e1ec70r", "rule": RULE, "rule_id": RULE, "scope": "ibm openid",
    "selector": CONFIGURATION, "sender": "orders@shop.example", "senders": ["orders@shop.example"],
    "sentence": "everything is in place", "service_name": "event-notifications", "smtp_config_id": CONFIGURATION,
    "sort": "name", "spf_include": "spf.relay.example", "staging_allowed": [], "state": "fine", "status": "delivered",
    "subject": "Your order 4711", "subnets": ["203.0.113.0/24"], "takeover_id": "0c0ffee0", "text": "try again later",
    "token_type": "Bearer", "txt_name": f"_spf.{NAME}", "txt_value": "v=spf1 include:spf.relay.example -all",
    "type": "ipAddress", "unsubscribe": "A link in each mail", "until": AT, "use": "reference", "user": "2b1a09f8",
    "user_id": "2b1a09f8", "username": "q7x0c2v9b4n1m8k3f506", "value": "203.0.113.7",
    "values": ["v=spf1 include:spf.relay.example -all"], "verification": "SUCCESSFUL",
    "website": "https://shop.example/", "what": "attempted", "where": "later",
    "why": "mx.inbox.example asked to try again later", "zone": "office", "zone_id": ZONE, "owed": [], "changes": [],
    "expiration": 1769864400, "expires_in": 3600, "addresses_preview": [], "tags": [], "search": "", "egress": "",
    "egress_pool": "",
    "destination_type": "", "service_group_id": "", "resource_type": "", "service_instance": "",
    "username_to_clone": None, "token": "…", "apikey": "pl_3kq9_…",
    "grant_type": "urn:ibm:params:oauth:grant-type:apikey",
}  # fmt: skip
WHOLE: Mapping[str, Any] = {
    "Resource": {
        "attributes": [
            {"name": "accountId", "value": INSTANCE},
            {"name": "serviceName", "value": "event-notifications"},
        ]
    },
    "GuardRailsIn": {"senders": ["orders-*@shop.example"], "networks": ["203.0.113.0/24"], "messages_per_hour": 500},
    "Preferences": {"when_suspended": "hold", "hold_cap": 5000, "html_policy": "warn"},
}
"""Schemas whose fields mean something only together."""
OF_OPERATION: Mapping[str, Any] = {
    "submit_authorization": {
        "nature": "transactional", "website": "https://shop.example/", "list_source": "Customers who ordered",
        "bounces_and_complaints": "Removed at once", "unsubscribe": "A link in each mail",
        "quota_rationale": "A thousand orders an hour", "list_cleaning": "Every week",
        "contacts": ["mail@shop.example"], "reply_to": "bounces@shop.example", "only_to_requesters": True,
        "unsubscribe_link": True,
    },
    "make_token": {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": "pl_3kq9_…"},
}  # fmt: skip
"""Bodies that have no schema of their own, by operation."""
OF_SCHEMA: Mapping[tuple[str, str], Any] = {
    ("Attribute", "name"): "networkZoneId",
    ("Attribute", "value"): ZONE,
    ("Observation", "name"): NAME,
    ("ShapeRow", "destination"): "inbox.example",
    ("RuleIn", "enforcement_mode"): "enabled",
    ("RuleOut", "enforcement_mode"): "enabled",
}


def complete(document: dict[str, Any]) -> None:
    """Put an example at each parameter, request body and answer of an OpenAPI document, in place."""
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            if not isinstance(operation, dict):
                continue
            for parameter in operation.get("parameters", ()):
                if "example" not in parameter and parameter["name"] in VALUES and parameter.get("required"):
                    parameter["example"] = VALUES[parameter["name"]]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if operation.get("operationId") in OF_OPERATION:
                    content["example"] = OF_OPERATION[operation["operationId"]]
            bodies = [operation.get("requestBody", {}), *operation.get("responses", {}).values()]
            for body in bodies:
                for content in body.get("content", {}).values():
                    if content.get("schema"):
                        content.setdefault("example", example(content["schema"], schemas))


def example(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", owner: str = "", depth: int = 0
) -> Any:
    """Return a value that a schema allows; `name` and `owner` say which field of which schema it is for."""
    if "$ref" in schema:
        owner = schema["$ref"].rpartition("/")[2]
        if owner in WHOLE:
            return WHOLE[owner]
        return example(schemas[owner], schemas, name, owner, depth)
    if schema.get("examples") and not name:
        return schema["examples"][0]
    if "properties" in schema and depth < DEPTH:
        return {
            field: example(inner, schemas, field, owner, depth + 1)
            for field, inner in schema["properties"].items()
            if field in schema.get("required", ()) or depth < DEPTH // 2
        }
    allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if allowed:
        return VALUES[name] if VALUES.get(name) in allowed else allowed[0]
    if "oneOf" in schema:
        choices = [each for each in schema["oneOf"] if each.get("type") != "null"]
        return example(choices[0], schemas, name, owner, depth) if choices else None
    if (owner, name) in OF_SCHEMA:
        return OF_SCHEMA[owner, name]
    return _plain(schema, schemas, name, owner, depth)


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str, owner: str, depth: int) -> Any:
    kind = schema.get("type")
    known = VALUES.get(name)
    match kind:
        case "array":
            items = schema.get("items", {})
            if isinstance(known, list) and "$ref" not in items:
                return known
            return [example(items, schemas, "", owner, depth + 1)]
        case "integer" | "number":
            return known if isinstance(known, int) else schema.get("default", schema.get("minimum", 1))
        case "boolean":
            return schema.get("default", True)
        case "string" if schema.get("format") == "date-time":
            return AT
        case "string":
            return known if isinstance(known, str) else schema.get("default", "")
        case _:
            return {}
