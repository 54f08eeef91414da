"""SMTP replies: a value, and the one table of every reply Postlane gives.

Codes are RFC 5321 §4.2.3, enhanced status codes RFC 3463 and RFC 2034. A reply has one sentence a person can
act on. `{name}` in a text is filled in by `Reply.with_`, always with text of ours or sanitised text.
"""

import re
from functools import lru_cache

import msgspec

_UNSAFE = re.compile(r"[^\x20-\x7e]")
TEXT_LIMIT = 440
"""Characters of text kept, so that a whole reply line stays within 512 octets (RFC 5321 §4.5.3.1.5)."""


class Reply(msgspec.Struct, frozen=True):
    """One SMTP reply: basic code, enhanced status code ("" where RFC 2034 forbids one) and text."""

    code: int
    enhanced: str
    text: str

    def with_(self, **values: str) -> "Reply":
        """Return this reply with the placeholders of its text filled in, sanitised to printable ASCII."""
        return Reply(self.code, self.enhanced, self.text.format(**{k: printable(v) for k, v in values.items()}))

    def referring(self, reference: str) -> "Reply":
        """Return this reply with a refusal reference the client can quote."""
        suffix = f" (ref {reference})"
        return Reply(self.code, self.enhanced, self.text[: TEXT_LIMIT - len(suffix)] + suffix)

    def __str__(self) -> str:
        """Return the reply as one line without its CRLF."""
        text = printable(self.text)[:TEXT_LIMIT]
        return f"{self.code} {self.enhanced} {text}" if self.enhanced else f"{self.code} {text}"

    @property
    def permanent(self) -> bool:
        """Whether the client must not try again unchanged."""
        return self.code >= 500


@lru_cache(maxsize=256)
def wire(reply: Reply) -> bytes:
    """Return a reply as it is sent; the few that most commands get are made once."""
    return f"{reply}\r\n".encode("ascii")


def printable(text: str) -> str:
    """Replace everything but printable ASCII by `?`, so that no reply or log line can be split or coloured."""
    return _UNSAFE.sub("?", text)


# Greeting, session and capability replies.
GREETING = Reply(220, "", "{host} ESMTP Postlane")
CLOSING = Reply(221, "2.0.0", "Bye")
OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
QUEUED = Reply(250, "2.0.0", "Ok: queued as {queue_id}")
CANNOT_VERIFY = Reply(252, "2.0.0", "Cannot VRFY user, but will accept the message and attempt delivery")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
ASK_USERNAME = Reply(334, "", "VXNlcm5hbWU6")
ASK_PASSWORD = Reply(334, "", "UGFzc3dvcmQ6")
ASK_RESPONSE = Reply(334, "", "")
SEND_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

# Ours or temporary: the client tries again later. Never 5xx for a fault of ours.
SHUTTING_DOWN = Reply(421, "4.3.2", "{host} is shutting down, try again in a moment")
NOT_READY = Reply(421, "4.3.2", "{host} cannot store mail safely at the moment, try again later")
SESSION_FAILED = Reply(421, "4.3.0", "Something went wrong on our side, reconnect and try again")
TIMED_OUT = Reply(421, "4.4.2", "Timed out waiting for the client")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections from your address, close some and try again")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, reconnect and correct the commands")
CREDENTIALS_WITHDRAWN = Reply(421, "4.7.0", "These credentials are no longer valid, reconnect and log in again")
TOO_MANY_FAILED_LOGINS = Reply(421, "4.7.0", "Too many failed logins, check username and password and reconnect")
LOCAL_FAULT = Reply(451, "4.3.0", "The message could not be stored safely, try again later")
FILTER_UNREACHABLE = Reply(451, "4.7.1", "The spam filter does not answer, try again later")
REPEAT_UNDER_WAY = Reply(451, "4.3.0", "This message is being stored already, try again in a moment")
INTERNAL_FAULT = Reply(451, "4.3.0", "Something went wrong on our side, try again later")
STORE_FULL = Reply(452, "4.3.1", "Insufficient storage at the moment, try again later")
BUSY = Reply(452, "4.3.1", "Too much mail is being received at the moment, try again later")
RATE_LIMITED = Reply(450, "4.7.1", "The quota of {quota} is used up, try again in {seconds} seconds")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients, send the rest in another message")
AUTH_BUSY = Reply(454, "4.7.0", "Authentication is busy, try again in a moment")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS is not available at the moment, try again later")
HOLD_FULL = Reply(452, "4.3.1", "Too much mail is held for {domain} until its DNS is repaired, try again later")

# The client's doing.
BARE_LINE_FEED = Reply(500, "5.5.2", "Line ends in LF without CR; send CRLF (openssl s_client needs -crlf)")
BAD_SYNTAX = Reply(500, "5.5.2", "Syntax error, command not understood")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
BAD_ARGUMENTS = Reply(501, "5.5.4", "Syntax: {syntax}")
BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode the base64 of the authentication exchange")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled by the client")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command {command} is not implemented")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands: {advice}")
AUTH_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not supported, use PLAIN or LOGIN")
PROXY_REFUSED = Reply(521, "5.7.1", "A PROXY header is not accepted from your address")
PARAMETER_UNKNOWN = Reply(555, "5.5.4", "Parameter {parameter} is not supported")
NOT_A_WEB_SERVER = Reply(521, "5.5.1", "This is a mail submission server, not a web server")
TLS_REQUIRED = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
TLS_REQUIRED_FOR_AUTH = Reply(538, "5.7.11", "Encryption required for authentication, issue STARTTLS first")
BAD_CREDENTIALS = Reply(535, "5.7.8", "Authentication failed: check username, password and allowed addresses")
BAD_SENDER_SYNTAX = Reply(501, "5.1.7", "Sender address is not valid: {fault}")
BAD_RECIPIENT_SYNTAX = Reply(501, "5.1.3", "Recipient address is not valid: {fault}")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address with non-ASCII characters needs SMTPUTF8")
SENDER_NOT_ALLOWED = Reply(550, "5.7.1", "Sender domain {domain} is not one this username may send for")
HEADER_FROM_NOT_ALLOWED = Reply(550, "5.7.1", "Header From domain {domain} is not one this username may send for")
HEADER_SENDER_NOT_ALLOWED = Reply(550, "5.7.1", "Header {header} domain {domain} is not one this username may send for")
SENDER_NOT_OF_USER = Reply(550, "5.7.1", "Sender {sender} is not one this username may use")
HEADER_FROM_NOT_OF_USER = Reply(550, "5.7.1", "Header From {sender} is not one this username may use")
RECIPIENT_NOT_OF_USER = Reply(550, "5.7.1", "This username may not send to {recipient}")
HEADER_FROM_MISSING = Reply(550, "5.6.0", "The message must have exactly one From header with one address: {fault}")
ADDRESS_NOT_ALLOWED = Reply(550, "5.7.1", "Your address is no longer allowed to send for this configuration")
NOT_VERIFIED = Reply(550, "5.7.1", "Sending for {domain} is not open yet: {missing}")
NOT_CHECKED = Reply(451, "4.7.1", "Sending for {domain} is not open yet, try again soon: {missing}")
SUSPENDED_DNS = Reply(550, "5.7.1", "Sending for {domain} is suspended: {missing}")
SUSPENDED_OPERATOR = Reply(550, "5.7.1", "Sending for {domain} is suspended by the operator: {reason}")
TOO_LARGE = Reply(552, "5.3.4", "Message is larger than the limit of {limit} octets")
ATTACHMENT_REFUSED = Reply(554, "5.6.1", "Attachments are not supported: {part}; send text/plain or text/html only")
BAD_CONTENT = Reply(550, "5.6.0", "Message content is not valid: {fault}")
LINE_IN_MESSAGE_TOO_LONG = Reply(554, "5.6.0", "A line of the message is longer than 998 octets (RFC 5322)")
STRAY_LINE_END = Reply(550, "5.6.0", "The message has a bare CR or LF; every line must end in CRLF")
AGAINST_POLICY = Reply(554, "5.7.1", "Refused by the content policy: {finding}")
BAD_IDEMPOTENCY_KEY = Reply(
    554, "5.6.0", "The header Idempotency-Key must be there once and be one word of 1 to 255 visible ASCII characters"
)
IDEMPOTENCY_KEY_REUSED = Reply(
    554,
    "5.6.0",
    "The Idempotency-Key was used for other content, queued as {queue_id}; a new message needs a new key",
)
LOOP_DETECTED = Reply(554, "5.4.6", "Too many Received headers, the message is going round in circles")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
