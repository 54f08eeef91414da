"""The mailed link that confirms an address for bounce reports: what it says, and the page it leads to."""

from html import escape

from services.control.core.letters import Letter
from shared.contract.records import Authorization, Configuration

ISSUER = "postlane-confirmation"
PURPOSE = b"postlane.control.confirmations.v1"


def claim(configuration_id: str, address: str) -> str:
    """Return what the link's token says."""
    return f"{configuration_id} {address}"


def read_claim(text: str) -> tuple[str, str]:
    """Return configuration and address of a token."""
    configuration_id, _, address = text.partition(" ")
    return configuration_id, address


def wanted(configuration: Configuration, authorization: Authorization | None) -> str:
    """Return the address that bounce reports should go to and is not confirmed, "" if there is none."""
    if configuration.reply_to:
        return "" if configuration.reply_to_confirmed_at else configuration.reply_to
    return authorization.questionnaire.reply_to if authorization else ""


def letter(domain: str, link: str, hours: float) -> Letter:
    """Return the mail with the link."""
    return Letter(
        f"{domain}: confirm where bounce reports go",
        f"Somebody who sends mail for {domain} through this relay named this address as the one that receives reports "
        f"on mail that could not be delivered.\n\nIf that is right, confirm it within {hours:g} hours:\n\n  {link}\n\n"
        "If it is not, do nothing: no report will be sent here.\n",
    )


def question(domain: str, address: str) -> str:
    """Return the page that asks; a scanner of mail that follows the link has confirmed nothing."""
    return _page(
        f"<p>Reports on mail of <b>{escape(domain)}</b> that could not be delivered are to go to "
        f"<b>{escape(address)}</b>.</p>"
        '<form method="post"><button type="submit">Confirm</button></form>'
    )


def done(domain: str, address: str) -> str:
    """Return the page that thanks."""
    return _page(f"<p>Confirmed: reports on mail of <b>{escape(domain)}</b> go to <b>{escape(address)}</b>.</p>")


def refused() -> str:
    """Return the page for a link that is not good, or no longer."""
    return _page(
        "<p>This link is not good: its time is over, or the address was changed since. A new one is sent by "
        "<code>postlane domain confirm-reply-to DOMAIN</code>.</p>"
    )


def _page(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Postlane</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body>{body}</body></html>"
    )
