"""How control says no: a status and everything that is wrong, in IBM's words where IBM has some."""

from services.control.core.fault import Fault


class Refused(Exception):
    """A request that is answered with an error; the API turns it into a body of IBM's shape."""

    def __init__(self, status: int, *faults: Fault, retry_after: int | None = None) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.status = status
        self.faults = faults
        self.retry_after = retry_after
        """Seconds, for the header of that name."""


def bad_request(*faults: Fault) -> Refused:
    """400: the request itself is wrong."""
    return Refused(400, *faults)


def unknown(what: str, name: str) -> Refused:
    """404: no such object, or one of another instance: both answer exactly the same."""
    return Refused(404, Fault(f"{what.replace(' ', '_')}_not_found", f"there is no {what} {name!r} here"))


def conflict(code: str, message: str) -> Refused:
    """409: the directory's present state does not allow it."""
    return Refused(409, Fault(code, message))


def forbidden(message: str) -> Refused:
    """403: the caller is known and may not."""
    return Refused(403, Fault("not_allowed", message))


def stale() -> Refused:
    """412: somebody else changed the object since it was read."""
    return Refused(
        412,
        Fault("precondition_failed", "the object has changed meanwhile: read it again, then repeat", "If-Match"),
    )


def unavailable(message: str) -> Refused:
    """503: another room or the bus does not answer."""
    return Refused(503, Fault("service_unavailable", message))
