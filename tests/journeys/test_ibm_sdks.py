"""The unmodified Python SDKs of IBM drive every operation, with every authenticator they offer."""

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import BearerTokenAuthenticator, IAMAuthenticator, NoAuthAuthenticator
from ibm_eventnotifications import event_notifications_v1 as en
from ibm_platform_services import context_based_restrictions_v1 as cbr

from tests.system import System, eventually

SMTP_API_TYPE = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"


AUTHENTICATORS = {
    "none": lambda key, url: NoAuthAuthenticator(),
    "wrong bearer": lambda key, url: BearerTokenAuthenticator("wrong"),
    "bearer": lambda key, url: BearerTokenAuthenticator(key),
    "iam": lambda key, url: IAMAuthenticator(key, url=url),
}
OURS = re.compile(r".*smtp.*|get_metrics|get_bounce_metrics")
"""Operations of event notifications that are about SMTP; its topics and other destinations are not Postlane's."""


def authenticator(kind: str, key: str, url: str) -> Any:
    """Return an authenticator: none, a wrong one, a key as bearer token, or a key exchanged for a token."""
    return AUTHENTICATORS[kind](key, url)


def operations_of(service: type) -> set[str]:
    """Return the operations a client of IBM's offers, as far as they are ours."""
    own = {name for name, value in vars(service).items() if inspect.isfunction(value) and not name.startswith("_")}
    own.discard("new_instance")
    return {name for name in own if OURS.fullmatch(name)} if service is en.EventNotificationsV1 else own


class Customer:
    """An instance with a manager's key, and IBM's clients for it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.instance = system.api("POST", "/v1/postlane/instances", json={"name": "ibm"}).json()["id"]
        wish = {"role": "manager", "instance": self.instance}
        self.key = system.api("POST", "/v1/postlane/keys", json=wish).json()["api_key"]
        self.url = system.ready["http"]

    def notifications(self, authenticator: Any) -> Any:
        """Return IBM's client of event notifications."""
        client = en.EventNotificationsV1(authenticator=authenticator)
        client.set_service_url(f"{self.url}/event-notifications")
        return client

    def restrictions(self, authenticator: Any) -> Any:
        """Return IBM's client of context-based restrictions."""
        client = cbr.ContextBasedRestrictionsV1(authenticator=authenticator)
        client.set_service_url(self.url)
        return client

    def authenticator(self, kind: str) -> Any:
        """Return one of the authenticators with the customer's key."""
        return authenticator(kind, self.key, self.url)


@pytest.fixture(scope="module")
def customer(system: System) -> Customer:
    """Give the module a customer."""
    return Customer(system)


@pytest.fixture(params=["bearer", "iam"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name an authenticator."""
    return str(request.param)


def failing(call: Any, *arguments: Any, **named: Any) -> ApiException:
    """Return the exception a call must raise."""
    with pytest.raises(ApiException) as found:
        call(*arguments, **named)
    assert isinstance(found.value, ApiException)
    assert found.value.message
    return found.value


def test_configurations_and_users(customer: Customer, kind: str) -> None:
    """Create, list, page, get, update, verify, users, clone, allowed IPs, delete: the typed models read every reply."""
    client, instance = customer.notifications(customer.authenticator(kind)), customer.instance
    domain = f"{kind}.sdk.example"

    answer = client.create_smtp_configuration(instance, name="mail", domain=domain, description="first")
    assert answer.get_status_code() == 201
    created = en.SMTPCreateResponse.from_dict(answer.get_result())
    assert created.config.dkim.txt_name.endswith(f"._domainkey.{domain}")
    assert created.config.spf.verification == created.config.en_authorization.verification == "PENDING"
    other = client.create_smtp_configuration(instance, name="other", domain=f"other.{domain}").get_result()["id"]

    listed = en.SMTPConfigurationsList.from_dict(
        client.list_smtp_configurations(instance, limit=1, offset=0, search="").get_result()
    )
    assert (listed.limit, len(listed.smtp_configurations)) == (1, 1)
    pager = en.SmtpConfigurationsPager(client=client, instance_id=instance, limit=1)
    assert {each["id"] for each in pager.get_all()} >= {created.id, other}
    found = en.SMTPConfiguration.from_dict(client.get_smtp_configuration(instance, created.id).get_result())
    assert found.config == created.config
    updated = client.update_smtp_configuration(instance, created.id, name="renamed").get_result()
    assert en.SMTPConfiguration.from_dict(updated).name == "renamed"
    assert client.update_smtp_configuration(instance, created.id).get_result()["name"] == "renamed"

    answer = client.update_verify_smtp(instance, created.id, type="dkim,spf,en_authorization")
    verified = en.SMTPVerificationUpdateResponse.from_dict(answer.get_result())
    assert answer.get_status_code() == 200
    assert [(each.type, each.verification) for each in verified.status] == [
        ("dkim", "PENDING"),
        ("spf", "PENDING"),
        ("en_authorization", "PENDING"),
    ]

    answer = client.create_smtp_user(instance, created.id, description="jira")
    user = en.SMTPUserResponse.from_dict(answer.get_result())
    assert answer.get_status_code() == 201
    assert re.fullmatch(r"[a-z0-9]{18}\d{2}", user.username)
    assert len(user.password) == 32
    clone = en.SMTPUserResponse.from_dict(
        client.create_smtp_user(instance, other, username_to_clone=user.username).get_result()
    )
    assert (clone.username, clone.password) == (user.username, None)
    users = en.SMTPUsersList.from_dict(client.list_smtp_users(instance, created.id, search="JIRA").get_result())
    assert [each.id for each in users.users] == [user.id]
    assert len(en.SmtpUsersPager(client=client, instance_id=instance, id=created.id).get_all()) == 1
    assert en.SMTPUser.from_dict(client.get_smtp_user(instance, created.id, user.id).get_result()).description == "jira"
    described = client.update_smtp_user(instance, created.id, user.id, description="ci").get_result()
    assert en.SMTPUser.from_dict(described).description == "ci"
    for _ in range(4):
        client.create_smtp_user(instance, created.id)
    assert failing(client.create_smtp_user, instance, created.id).status_code == 409

    allowed = en.SMTPAllowedIPs.from_dict(client.get_smtp_allowed_ips(instance, created.id).get_result())
    assert isinstance(allowed.updated_at, datetime)

    assert client.delete_smtp_user(instance, created.id, user.id).get_status_code() == 204
    assert failing(client.get_smtp_user, instance, created.id, user.id).status_code == 404
    for identity in (created.id, other):
        assert client.delete_smtp_configuration(instance, identity).get_status_code() == 204
    gone = failing(client.get_smtp_configuration, instance, created.id)
    assert gone.status_code == 404
    assert created.id in gone.message


def test_restrictions(customer: Customer, kind: str) -> None:
    """Zones, rules, operations, targets, settings: the stricter models of this service read every reply."""
    client, account = customer.restrictions(customer.authenticator(kind)), customer.instance
    addresses = [
        cbr.AddressIPAddress(type="ipAddress", value="192.0.2.1"),
        cbr.AddressIPAddressRange(type="ipRange", value="192.0.2.8-192.0.2.9"),
        cbr.AddressSubnet(type="subnet", value="2001:db8::/32"),
    ]
    answer = client.create_zone(name=f"zone {kind}", account_id=account, addresses=addresses)
    zone, etag = cbr.Zone.from_dict(answer.get_result()), answer.get_headers()["ETag"]
    assert (answer.get_status_code(), zone.description, zone.excluded, zone.address_count) == (201, "", [], 3)
    conflict = failing(client.create_zone, name=f"zone {kind}", account_id=account, addresses=addresses)
    assert conflict.status_code == 409
    wrong = [cbr.AddressIPAddress(type="ipAddress", value="192.0.2.300")]
    assert failing(client.create_zone, name="x", account_id=account, addresses=wrong).status_code == 400
    zones = cbr.ZoneList.from_dict(client.list_zones(account, name=f"zone {kind}", sort="name").get_result())
    assert [each.id for each in zones.zones] == [zone.id]
    assert failing(client.list_zones, "this_is_an_invalid_id").status_code == 400
    assert cbr.Zone.from_dict(client.get_zone(zone.id).get_result()) == zone
    replaced = client.replace_zone(
        zone.id, etag, name=f"zone {kind}", account_id=account, addresses=addresses[:1], description="one"
    )
    assert cbr.Zone.from_dict(replaced.get_result()).address_count == 1
    stale = failing(client.replace_zone, zone.id, etag, name="x", account_id=account, addresses=addresses)
    assert stale.status_code == 412

    context = cbr.RuleContext(attributes=[cbr.RuleContextAttribute(name="networkZoneId", value=zone.id)])
    resource = cbr.Resource(
        attributes=[
            cbr.ResourceAttribute(name="accountId", value=account),
            cbr.ResourceAttribute(name="serviceName", value="event-notifications"),
        ]
    )
    operations = cbr.NewRuleOperations(api_types=[cbr.NewRuleOperationsApiTypesItem(api_type_id=SMTP_API_TYPE)])
    answer = client.create_rule(
        contexts=[context], resources=[resource], operations=operations, description="d", enforcement_mode="report"
    )
    rule, etag = cbr.Rule.from_dict(answer.get_result()), answer.get_headers()["ETag"]
    assert (answer.get_status_code(), rule.enforcement_mode, rule.contexts, rule.resources) == (
        201,
        "report",
        [context],
        [resource],
    )
    rules = cbr.RuleList.from_dict(client.list_rules(account, zone_id=zone.id).get_result())
    assert [each.id for each in rules.rules] == [rule.id]
    assert cbr.Rule.from_dict(client.get_rule(rule.id).get_result()) == rule
    changed = client.replace_rule(
        rule.id, etag, contexts=[context], resources=[resource], operations=operations, enforcement_mode="disabled"
    )
    assert cbr.Rule.from_dict(changed.get_result()).description == ""
    unsupported = cbr.Resource(
        attributes=[
            cbr.ResourceAttribute(name="accountId", value=account),
            cbr.ResourceAttribute(name="serviceName", value="iam-identity"),
        ]
    )
    assert failing(client.create_rule, contexts=[context], resources=[unsupported]).status_code == 400
    assert failing(client.delete_zone, zone.id).status_code == 409

    settings = cbr.AccountSettings.from_dict(client.get_account_settings(account).get_result())
    assert (settings.current_zone_count, settings.current_rule_count) == (1, 1)
    offered = cbr.OperationsList.from_dict(
        client.list_available_service_operations(service_name="event-notifications").get_result()
    )
    assert [each.api_type_id for each in offered.api_types] == [SMTP_API_TYPE]
    both = failing(client.list_available_service_operations, service_name="x", service_group_id="y")
    assert both.status_code == 400
    targets = cbr.ServiceRefTargetList.from_dict(client.list_available_serviceref_targets(type="all").get_result())
    assert targets.count == 0
    assert failing(client.list_available_serviceref_targets, type="x").status_code == 400
    assert failing(client.get_serviceref_target, "x").status_code == 404

    assert client.delete_rule(rule.id).get_status_code() == 204
    assert client.delete_zone(zone.id).get_status_code() == 204
    for gone in (client.get_rule, client.delete_rule):
        assert failing(gone, rule.id).status_code == 404
    for gone in (client.get_zone, client.delete_zone):
        assert failing(gone, zone.id).status_code == 404


def test_metrics_and_bounces(system: System, kind: str) -> None:
    """What was really sent is counted, and a bounce is listed with the remote server's word."""
    delivered = system.send("delivered@inbox.example", f"sdk-delivered-{kind}")
    code = {"bearer": "5.1.1", "iam": "5.1.2"}[kind]  # an address that bounced is not tried again
    bounced = system.send(f"bounce+550-{code}@inbox.example", f"sdk-bounced-{kind}")
    eventually("delivery", lambda: system.status(delivered) == "delivered")
    eventually("bounce", lambda: system.status(bounced) == "bounced")
    client = en.EventNotificationsV1(authenticator=authenticator(kind, system.tenant["api_key"], system.ready["http"]))
    client.set_service_url(f"{system.ready['http']}/event-notifications")
    now = datetime.now(UTC)
    gte, lte = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (now - timedelta(days=1), now + timedelta(minutes=1)))
    window = {"instance_id": system.tenant["instance_id"], "gte": gte, "lte": lte}

    answer = client.get_metrics(**window, smtp_config_id=system.tenant["configuration_id"]).get_result()
    counts = {metric.key: metric for metric in en.Metrics.from_dict(answer).metrics}
    assert sorted(counts) == ["bounced", "deferred", "opened", "submitted", "success"]
    assert counts["submitted"].doc_count >= 2
    assert counts["success"].doc_count >= 1
    assert counts["bounced"].doc_count >= 1
    assert 1 < len(counts["submitted"].histogram.buckets) <= 48
    assert sum(b.doc_count for b in counts["submitted"].histogram.buckets) == counts["submitted"].doc_count

    answer = client.get_bounce_metrics(
        **window, smtp_config_id=system.tenant["configuration_id"], subject=f"sdk-bounced-{kind}"
    ).get_result()
    listed = en.BounceMetrics.from_dict(answer)
    assert (listed.total_count, listed.limit, listed.offset) == (1, 10, 0)
    assert listed.metrics[0].email_address == f"bounce+550-{code}@inbox.example"
    assert code in listed.metrics[0].error_message
    assert listed.metrics[0].ip_address == "127.0.0.1"
    custom = client.get_metrics(**window, destination_type="smtp_custom").get_result()
    assert {metric.doc_count for metric in en.Metrics.from_dict(custom).metrics} == {0}
    assert failing(client.get_metrics, **window).status_code == 400


def test_these_tests_drive_every_operation_the_clients_have() -> None:
    """A newer client with one operation more would be noticed here."""
    driven = set(re.findall(r"\bclient\.(\w+)", Path(__file__).read_text()))
    for service, count in ((en.EventNotificationsV1, 14), (cbr.ContextBasedRestrictionsV1, 14)):
        offered = operations_of(service)
        assert len(offered) >= count
        assert offered - driven == set()


@pytest.mark.parametrize("kind", ["none", "wrong bearer"])
def test_without_a_good_key_every_operation_is_refused(customer: Customer, kind: str) -> None:
    """No authentication and a wrong token: 401, whatever is asked for."""
    values = {"type": "dkim", "gte": "2026-01-01T00:00:00Z", "lte": "2026-01-02T00:00:00Z", "domain": "x.example"}
    clients = (
        customer.notifications(customer.authenticator(kind)),
        customer.restrictions(customer.authenticator(kind)),
    )
    for client in clients:
        for name in sorted(operations_of(type(client))):
            call = getattr(client, name)
            needed = [
                each.name
                for each in inspect.signature(call).parameters.values()
                if each.default is inspect.Parameter.empty
            ]
            arguments = {each: values.get(each, customer.instance) for each in needed if each != "kwargs"}
            arguments |= {each: [] for each in ("contexts", "resources", "addresses") if each in needed}
            assert failing(call, **arguments).status_code == 401, name


def test_a_wrong_api_key_fails_at_the_token(customer: Customer) -> None:
    """The client of IAM reads why."""
    iam = customer.notifications(IAMAuthenticator("wrong", url=customer.url))
    assert "could not be found" in failing(iam.list_smtp_configurations, customer.instance).message
