"""Settings of the tracker."""

from typing import Annotated

from msgspec import Meta

from shared.runtime.settings import Settings


class TrackerSettings(Settings, frozen=True, kw_only=True):
    """The tracker's database and its pace. Names: `POSTLANE_TRACKER_…`."""

    database_url: Annotated[
        str, Meta(description="sqlite:///<file>, or postgresql://… which replicas can share (secret: use …_FILE)")
    ] = "sqlite:///var/tracker.sqlite"
    batch: Annotated[int, Meta(description="most events written in one transaction", ge=1, le=10_000)] = 500
    batch_bytes: Annotated[int, Meta(description="most octets of events taken at once", ge=1 << 16)] = 8 << 20
    wait_seconds: Annotated[float, Meta(description="how long one request for events waits at the bus", gt=0)] = 10
    gather_seconds: Annotated[
        float, Meta(description="pause between two transactions, for events to come together", ge=0, le=5)
    ] = 0.1
    retry_seconds: Annotated[float, Meta(description="pause after the database failed", gt=0)] = 2
    overlap_records: Annotated[
        int, Meta(description="records read again before the last one seen when catching up, against gaps", ge=0)
    ] = 20_000
    retention_days: Annotated[
        int, Meta(description="finished messages and refusals are forgotten after this; 0: never", ge=0)
    ] = 90
    audit_seconds: Annotated[
        float, Meta(description="pause between audits that compare the database with the mail path", gt=0)
    ] = 60
    audit_grace_seconds: Annotated[
        float, Meta(description="age from which a message must be in both: events are under way until then", ge=0)
    ] = 120
    audit_candidates: Annotated[
        int, Meta(description="most messages looked at one by one in one audit; the others wait their turn", ge=1)
    ] = 1000
