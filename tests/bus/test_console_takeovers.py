"""A domain changes hands in the console: what to publish, the look at it, and what others see of it."""

import re

from tests.town import DOMAIN, PROOF_AT, Town


def takeovers(instance: str) -> str:
    """Return the page of a tenant's takeovers."""
    return f"/console/tenants/{instance}/takeovers"


async def test_a_proven_domain_changes_hands(town: Town) -> None:
    """Refused, challenged, not meant, not proven, proven: each in the words of the API."""
    visitor = await town.visitor("manager", town.new)
    tenant = f"/console/tenants/{town.new}"
    assert takeovers(town.new) in await visitor.open(tenant)
    await visitor.submit("/domains", 409, domain=DOMAIN)
    assert "belongs to a configuration already" in visitor.page
    assert "No takeover is open." in await visitor.open(takeovers(town.new))
    await visitor.submit("/takeovers", domain="Wanted.Example")
    assert f"<code>{PROOF_AT}</code>" in visitor.page
    (proof,) = re.findall(r"<code>(postlane-proof=[^<]+)</code>", visitor.page)
    await visitor.submit("/complete", 400)
    assert "tick that you mean it" in visitor.page
    await visitor.open(takeovers(town.new))
    await visitor.submit("/complete", 409, sure="yes")
    assert "the proof was not found, so nothing was changed" in visitor.page
    assert await town.world.directory.get(f"suspension.{town.configuration}") is None

    town.world.dns.set(PROOF_AT, "TXT", proof)
    await visitor.open(takeovers(town.new))
    await visitor.submit("/complete", sure="yes")
    assert "The domain is yours" in visitor.page
    assert f"<h1>{DOMAIN}</h1>" in visitor.page
    assert "No takeover is open." in await visitor.open(takeovers(town.new))
    loser = await town.visitor("manager", town.old)
    await loser.open(f"/console/tenants/{town.old}/domains/{town.configuration}")
    assert "claimed by somebody else, who proved" in loser.page
    assert town.new not in loser.page


async def test_what_is_not_taken_over(town: Town) -> None:
    """A free domain, one's own, what is no domain, and with keys that the operator has no zone for."""
    visitor = await town.visitor("manager", town.new)
    for domain, status, said in (
        ("free.example", 409, "nobody has free.example"),
        ("<b>.example", 400, "domain cannot be used"),
        ("", 400, "domain cannot be used"),
    ):
        await visitor.post(takeovers(town.new), status, domain=domain)
        assert said in visitor.page
        assert "<b>" not in visitor.page
    owner = await town.visitor("manager", town.old)
    await owner.post(takeovers(town.old), 409, domain=DOMAIN)
    assert "this instance has wanted.example already" in owner.page
    await visitor.post(takeovers(town.new), 200, domain=DOMAIN)
    (proof,) = re.findall(r"<code>(postlane-proof=[^<]+)</code>", visitor.page)
    town.world.dns.set(PROOF_AT, "TXT", proof)
    await visitor.submit("/complete", 409, sure="yes", delegate="yes")
    assert "the operator has no zone for delegated keys" in visitor.page
    assert await town.world.directory.get(f"suspension.{town.configuration}") is None


async def test_a_takeover_is_its_tenants_and_a_reader_only_reads_it(town: Town) -> None:
    """Others find nothing of it; whoever gives it up means it."""
    visitor = await town.visitor("manager", town.new)
    await visitor.post(takeovers(town.new), 200, domain=DOMAIN)
    (one,) = re.findall(r'action="([^"]+)/drop"', visitor.page)
    reader, other = await town.visitor("reader", town.new), await town.visitor("manager", town.old)
    assert PROOF_AT in await reader.open(takeovers(town.new))
    assert one not in reader.page
    for act in ("complete", "drop"):
        await reader.post(f"{one}/{act}", 403, sure="yes")
        assert "this key may only read" in reader.page
        await other.post(f"{one}/{act}", 404, sure="yes")
        await other.post(f"{one.replace(town.new, town.old)}/{act}", 404, sure="yes")
        assert "there is no takeover" in other.page
    await visitor.submit("/drop", 400)
    assert PROOF_AT in await visitor.open(takeovers(town.new))
    await visitor.submit("/drop", sure="yes")
    assert "The takeover is given up." in visitor.page
    assert "No takeover is open." in visitor.page
