"""Wires the verifier."""

import random
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from services.verifier.advice import Advice
from services.verifier.authorities import Authorities
from services.verifier.checker import Checker
from services.verifier.core.spf import Limits
from services.verifier.examination import examination
from services.verifier.measures import Measures
from services.verifier.resolver import Resolver, system_servers
from services.verifier.rota import Rota
from services.verifier.rounds import Rounds
from services.verifier.settings import VerifierSettings
from services.verifier.standings import Standings
from shared.bus.client import connect
from shared.bus.roll_call import answer_roll_call
from shared.bus.service import Handler, serve
from shared.bus.settings import BusSettings
from shared.contract import requests
from shared.contract.requests import DescribeRecords, LookForChallenge, VerifyNow
from shared.runtime import clock, lifecycle
from shared.runtime.lifecycle import Room
from shared.runtime.settings import load


def main(environ: Mapping[str, str], file: Path | None) -> int:
    """Run the verifier until it is told to stop; return the process's exit status.

    Errors: `SettingsFault`.
    """
    settings = load(VerifierSettings, "verifier", environ, file)
    bus_settings = load(BusSettings, "bus", environ, file)

    async def live(room: Room) -> None:
        await _live(room, settings, bus_settings)

    return lifecycle.run("verifier", live, lifecycle.health_settings(environ, file))


async def _live(room: Room, settings: VerifierSettings, bus_settings: BusSettings) -> None:
    room.ready("bus", False, "connecting")
    room.ready("directory", False, "not loaded yet")
    servers = settings.resolvers or system_servers()
    if not servers:
        room.log.error("no DNS server is configured: set POSTLANE_VERIFIER_RESOLVERS")
    if not settings.egress_addresses:
        room.log.warning(
            "no sending address is configured, so no SPF record can be judged: set POSTLANE_VERIFIER_EGRESS_ADDRESSES"
        )
    resolver = Resolver(servers, settings.query_limits)
    measures = Measures(room.metrics, resolver.counters)
    chance = random.SystemRandom().random
    bus = await room.unless_stopped(connect(bus_settings, "verifier"))
    try:
        bus.on_connection(lambda connected: room.ready("bus", connected, "" if connected else "the bus is away"))
        await answer_roll_call(bus, room.conditions.failing, examination(resolver, settings))
        replica = settings.replica or secrets.token_hex(4)
        lease = timedelta(seconds=settings.lease_seconds)
        rota = Rota(
            bus, replica, lease=lease, longest=settings.longest_wait, kept=settings.observations_kept, clock=clock.now
        )
        checker = Checker(
            resolver,
            settings.egress_addresses,
            settings.ehlo_name,
            Limits(questions=settings.questions_per_check),
            settings.check_timeout_seconds,
            clock.now,
        )
        authorities = Authorities(resolver, settings.authority_port, settings.authority_private_networks)
        rounds = Rounds(
            bus,
            rota,
            Standings(bus, settings.policy, settings.intervals, settings.occasions, clock.now, chance),
            checker,
            Advice(checker, authorities, rota),
            settings.occasions,
            measures,
            at_once=settings.checks_at_once,
            first_spread=timedelta(seconds=settings.first_check_spread_seconds),
            unknown_alarm=timedelta(seconds=settings.unknown_alarm_seconds),
            clock=clock.now,
            chance=chance,
        )
        await rounds.start(room.tasks)
        endpoints: dict[str, tuple[type, Handler]] = {
            requests.VERIFY: (VerifyNow, rounds.verify),
            requests.RECORDS: (DescribeRecords, rounds.describe),
            requests.CHALLENGE: (LookForChallenge, rounds.look_for_challenge),
        }
        service = await serve(bus, "postlane-verifier", "Checks SPF and DKIM records", endpoints, room.tasks)
        room.ready("directory", True)  # whoever sees it ready, or a standing of its making, may ask
        room.tasks.create_task(rounds.keep_in_step(), name="directory to schedule")
        await rounds.work(room.stopping)
        await service.close()
    finally:
        await bus.close()
