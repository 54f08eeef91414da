"""A refusal: what the client is told, and the true reason, which may be more than a stranger should know."""

import msgspec

from shared.mail.reply import Reply


class Refusal(msgspec.Struct, frozen=True):
    """One decision against a client; `reason` goes to the feed of the tenant or the operator, never to the client."""

    reply: Reply
    reason: str
    instance: str = ""
    configuration: str = ""
