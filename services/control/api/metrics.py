"""IBM's metrics: counts over time of a configuration's recipients, and the list of bounces."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.masks import shown_to
from services.control.api.parameters import InstanceId, Limit, Offset, TheDesk
from services.control.caller import configuration_of, instance_of
from services.control.core import metrics, paging
from services.control.core.fault import Fault
from services.control.refusal import bad_request
from shared.contract import requests
from shared.contract.records import Configuration

KEYS = ("bounced", "deferred", "opened", "success", "submitted")
CUSTOM_EMAIL = "smtp_custom"
FOREIGN_FILTERS = ("destination_id", "subscription_id", "source_id", "notification_id")
"""Filters of IBM's by things that do not exist here."""

Gte = Annotated[str, QueryParameter(description="from this time on, UTC, for example 2026-01-31T00:00:00Z")]
Lte = Annotated[str, QueryParameter(description="up to this time")]
SmtpConfigId = Annotated[str, QueryParameter(description="the SMTP configuration")]
DestinationType = Annotated[str, QueryParameter(description="smtp_custom: there is none here")]


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted in one stretch of time."""

    doc_count: int
    key_as_string: datetime


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over time, oldest first; stretches in which nothing was counted are there too."""

    buckets: tuple[Bucket, ...]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one outcome."""

    key: str
    doc_count: int
    histogram: Histogram


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of every outcome."""

    metrics: tuple[Metric, ...]


class BounceItem(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that was given up."""

    email_address: str
    subject: str
    error_message: str
    timestamp: datetime
    ip_address: str


class BounceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """A page of bounces, newest first."""

    metrics: tuple[BounceItem, ...]
    total_count: int
    offset: int
    limit: int


def _asked(
    request: Http, desk: Desk, instance_id: str, gte: str, lte: str, configuration_id: str, destination_type: str
) -> tuple[Configuration | None, datetime, datetime]:
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id)
    found = metrics.window(gte, lte)
    if isinstance(found[0], Fault) or not isinstance(found[1], datetime):
        raise bad_request(*(fault for fault in found if isinstance(fault, Fault)))
    since, until = found
    if configuration_id:
        configuration = configuration_of(desk.directory, caller, instance_id, configuration_id)
        if any(request.query_params.get(name) for name in FOREIGN_FILTERS):
            return None, since, until  # no message here came from such a thing
        return configuration, since, until
    if destination_type != CUSTOM_EMAIL:
        raise bad_request(
            Fault("smtp_config_id_missing", "name the configuration to count: smtp_config_id", "smtp_config_id")
        )
    return None, since, until  # custom e-mail destinations do not exist here: nothing was sent by them


@get("/v1/instances/{instance_id:str}/metrics", tags=["metrics"])
async def get_metrics(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    gte: Gte,
    lte: Lte,
    smtp_config_id: SmtpConfigId = "",
    destination_type: DestinationType = "",
) -> Metrics:
    """Count the recipients of a configuration by outcome over time; opening of mail is not tracked, so 0."""
    configuration, since, until = _asked(request, desk, instance_id, gte, lte, smtp_config_id, destination_type)
    for name in ("email_to", "subject"):
        if request.query_params.get(name):
            raise bad_request(
                Fault("unsupported_filter", f"counts cannot be narrowed by {name}; the list of bounces can", name)
            )
    buckets: tuple[requests.CountBucket, ...] = ()
    if configuration is not None:
        wish = requests.CountMessages(
            instance=instance_id,
            configuration=configuration.id,
            since=since,
            until=until,
            bucket_seconds=metrics.bucket_seconds(since, until),
        )
        buckets = (await desk.ask("tracker", requests.COUNT, wish, requests.MessageCounts)).buckets
    return Metrics(
        metrics=tuple(
            Metric(
                key=key,
                doc_count=sum(getattr(bucket, key, 0) for bucket in buckets),
                histogram=Histogram(
                    buckets=tuple(Bucket(doc_count=getattr(b, key, 0), key_as_string=b.at) for b in buckets)
                ),
            )
            for key in KEYS
        )
    )


@get("/v1/instances/{instance_id:str}/metrics/bounce", tags=["metrics"])
async def get_bounce_metrics(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    gte: Gte,
    lte: Lte,
    smtp_config_id: SmtpConfigId = "",
    destination_type: DestinationType = "",
    email_to: Annotated[str, QueryParameter(description="only this recipient")] = "",
    subject: Annotated[str, QueryParameter(description="only messages with exactly this subject")] = "",
    limit: Limit = 10,
    offset: Offset = 0,
) -> BounceMetrics:
    """List the recipients of a configuration that bounced or expired, with the remote server's last word."""
    configuration, since, until = _asked(request, desk, instance_id, gte, lte, smtp_config_id, destination_type)
    if faults := paging.paging_faults(limit, offset, ""):
        raise bad_request(*faults)
    if configuration is None:
        return BounceMetrics(metrics=(), total_count=0, offset=offset, limit=limit)
    wish = requests.ListBounces(
        instance=instance_id,
        configuration=configuration.id,
        since=since,
        until=until,
        recipient=email_to,
        subject=subject,
        limit=limit,
        offset=offset,
    )
    found = shown_to(caller_of(request), await desk.ask("tracker", requests.BOUNCES, wish, requests.BouncesFound))
    return BounceMetrics(
        metrics=tuple(
            BounceItem(
                email_address=bounce.address,
                subject=bounce.subject,
                error_message=bounce.error,
                timestamp=bounce.at,
                ip_address=bounce.client_address,
            )
            for bounce in found.bounces
        ),
        total_count=found.total,
        offset=offset,
        limit=limit,
    )


HANDLERS = [get_metrics, get_bounce_metrics]
