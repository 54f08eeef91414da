"""One transaction on an open session: MAIL, RCPT, DATA and the content, for recipients who share a door."""

from collections.abc import Callable, Sequence

import aiosmtplib

from services.delivery.core import offer
from services.delivery.core.lines import command
from services.delivery.core.outcome import Outcome
from services.delivery.parcel import Parcel
from services.delivery.session import MayFinish, Session
from services.delivery.trace import ACCEPTED, Ended, Trace
from shared.contract.envelope import Recipient


class Transaction:
    """A parcel for recipients; can be run on another session if the first was of no use."""

    def __init__(self, trace: Trace, parcel: Parcel, recipients: Sequence[Recipient]) -> None:
        self._trace = trace
        self._parcel = parcel
        self._recipients = recipients

    async def run(
        self, session: Session, decided: dict[int, Outcome], may_finish: MayFinish, on_dot: Callable[[], None]
    ) -> None:
        """Add to `decided` what becomes of each recipient, by number; `on_dot` is called before the final dot goes out.

        Errors: `Ended` for a server that has nothing more to say; `Stopped` if `may_finish` says no;
        `aiosmtplib.SMTPException`, `OSError` and `TimeoutError` for a connection that fails.
        """
        accepted = await self._offered(session, decided)
        if accepted:
            reply = await session.content(self._parcel.mail, may_finish, on_dot)
            decided.update(dict.fromkeys(accepted, self._trace.judged(reply)))

    async def _offered(self, session: Session, decided: dict[int, Outcome]) -> Sequence[int]:
        """Say everything before the content; return the recipients it may be sent for, none if it may not."""
        envelope, trace = self._parcel.envelope, self._trace
        trace.phase = "mail"
        octets, server = len(self._parcel.mail), session.offer
        trace.dsn = "dsn" in server.extensions
        recipients, unsuitable = offer.suitable(server, envelope, octets, self._recipients, trace.door.host)
        decided.update(unsuitable)
        if not recipients:
            return ()
        words = [command(b"MAIL", *offer.mail_words(server, envelope, octets, self._recipients))]
        words += [command(b"RCPT", *offer.rcpt_words(server, recipient, path)) for recipient, path in recipients]
        leads = [b"RSET"] if session.spoilt else []
        replies = session.send([*leads, *words, b"DATA"])
        mail, *rcpts, data = replies[len(leads) :]
        try:
            for reset in replies[: len(leads)]:
                if (await reset).code not in ACCEPTED:
                    raise aiosmtplib.SMTPServerDisconnected("the server does not end the last transaction")
            session.spoilt = False
            reply = await mail
            if reply.code not in ACCEPTED:
                decided.update(dict.fromkeys((r.number for r, _ in recipients), trace.refused(reply)))
                await session.withdraw([*rcpts, data])
                return ()
            trace.phase = "rcpt"
            accepted: list[int] = []
            for (recipient, _), rcpt in zip(recipients, rcpts, strict=True):
                reply = await rcpt
                if reply.code in ACCEPTED:
                    accepted.append(recipient.number)
                    continue
                decided[recipient.number] = result = trace.judged(reply)
                if not session.is_connected:
                    raise Ended(result)
            if not accepted:
                await session.withdraw([data])  # nothing is sent without a recipient, whatever is said to DATA
                return ()
            trace.phase = "data"
            reply = await data
            if reply.code != 354:
                decided.update(dict.fromkeys(accepted, trace.refused(reply)))
                await session.withdraw(())
                return ()
            return accepted
        except BaseException:
            session.abort()  # replies may still be on their way, or a body be waited for
            raise
        finally:
            for unasked in replies:
                unasked.close()
