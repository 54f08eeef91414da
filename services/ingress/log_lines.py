"""The canonical lines of the process log: one a message, one a refusal of a client that is logged in, one a session.

Each has all that is needed to answer a question from it alone; a password is in none.
"""

import logging

from services.ingress.core.refusal import Refusal
from services.ingress.session import SubmissionSession
from shared.contract.envelope import Envelope
from shared.runtime import logs

log = logging.getLogger("ingress")


def accepted(session: SubmissionSession, envelope: Envelope, seconds: float) -> None:
    """Log a message answered 250; `seconds` is from its last octet to the PubAck."""
    logs.tell(
        log,
        "accepted",
        queue_id=envelope.queue_id,
        instance=envelope.instance,
        configuration=envelope.configuration,
        lane=envelope.lane,
        recipients=len(envelope.recipients),
        octets=envelope.size,
        message_id=envelope.message_id,
        seconds=round(seconds, 4),
        **_client(session),
    )


def repeated(session: SubmissionSession, queue_id: str) -> None:
    """Log a message answered 250 with the queue ID of an earlier one, of which no second copy was made."""
    log.info("accepted before", extra={"queue_id": queue_id, **_client(session)})


def refused(session: SubmissionSession, refusal: Refusal, reference: str, phase: str) -> None:
    """Log a refusal; those of strangers are counted and told as events only."""
    if session.login is None:
        return
    log.info(
        "refused",
        extra={
            "reference": reference,
            "code": refusal.reply.code,
            "enhanced": refusal.reply.enhanced,
            "phase": phase,
            "why": refusal.reason,
            "instance": refusal.instance,
            "configuration": refusal.configuration,
            **_client(session),
        },
    )


def session_ended(session: SubmissionSession, seconds: float, phase: str, received: int) -> None:
    """Log the end of a session: how long, how much, and in which phase it was left."""
    logs.tell(
        log,
        "session ended",
        **_client(session),
        client_name=session.client_name,
        tls=session.tls,
        accepted=session.accepted,
        refused=session.refused,
        received_octets=received,
        phase=phase,
        seconds=round(seconds, 3),
    )


def _client(session: SubmissionSession) -> dict[str, str]:
    return {
        "user": session.login.username if session.login else "",
        "client": session.client_address,
        "endpoint": session.endpoint,
    }
