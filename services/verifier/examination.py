"""What the verifier can say of itself to the doctor: whether its name servers answer, and what it judges SPF by."""

import time
from collections.abc import Sequence

from services.verifier.core.answer import Question, Unknown
from services.verifier.resolver import Resolver
from services.verifier.settings import VerifierSettings
from shared.bus.roll_call import Examine
from shared.contract.examination import CallRoll, Finding

ASKED = "example.com"
"""A name that is always there (RFC 2606); that it is not there is an answer too."""


def examination(resolver: Resolver, settings: VerifierSettings) -> Examine:
    """Return what examines this process."""

    async def examine(_call: CallRoll) -> Sequence[Finding]:
        findings = [await _name_servers(resolver)]
        if not settings.egress_addresses:
            findings.append(
                Finding(
                    check="sending addresses",
                    state="bad",
                    sentence="no sending address is configured, so no SPF record can be judged",
                    advice="set POSTLANE_VERIFIER_EGRESS_ADDRESSES to the addresses mail leaves from",
                )
            )
        return findings

    return examine


async def _name_servers(resolver: Resolver) -> Finding:
    if not resolver.servers:
        advice = "set POSTLANE_VERIFIER_RESOLVERS, or put name servers into /etc/resolv.conf"
        return Finding(check="name server", state="bad", sentence="no name server is configured", advice=advice)
    began = time.monotonic()
    answer = await resolver.ask(Question(ASKED, "TXT"), fresh=True)
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    if isinstance(answer, Unknown):
        return Finding(
            check="name server",
            state="bad",
            sentence=f"no name server tells anything about {ASKED}: {answer.why}",
            advice="records are not checked meanwhile, and nobody is suspended for it: see POSTLANE_VERIFIER_RESOLVERS",
        )
    return Finding(check="name server", state="ok", sentence=f"{answer.evidence.resolver} answered in {took}")
