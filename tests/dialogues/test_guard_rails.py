"""Guard rails of users where a conversation in text does not do: staging on the bus, changes at two processes."""

from pathlib import Path

import msgspec
import pytest

from shared.contract.envelope import Staging
from shared.contract.records import User
from tests.bus_server import BusServer
from tests.dialogues.test_credentials import log_in, logs_in, pair, until
from tests.dialogues.test_server import MAIL, accepted, begin, connect, running, stored, with_tenants
from tests.dialogues.test_server import bus as bus
from tests.ingress_process import Tenants, password_of


def limit(bus: BusServer, **limits: object) -> None:
    """Give alice a guard rail in `shop.example`."""

    async def put(tenants: Tenants) -> None:
        entry = await tenants.directory.get("user.shop.u-alice")
        assert entry is not None
        assert isinstance(entry.record, User)
        await tenants.directory.put("user.shop.u-alice", msgspec.structs.replace(entry.record, **limits))

    with_tenants(bus, put)


@pytest.mark.parametrize(
    ("limits", "staging"),
    [
        ({}, None),
        ({"staging": "capture"}, Staging(mode="capture")),
        ({"staging": "simulate"}, Staging(mode="simulate")),
        ({"staging": "redirect", "redirect_to": "qa@y.example"}, Staging(mode="redirect", redirect_to="qa@y.example")),
        (
            {"staging": "allow-list", "staging_allowed": ("*@y.example",)},
            Staging(mode="allow-list", allowed=("*@y.example",)),
        ),
    ],
)
def test_staging_travels_with_the_message(
    bus: BusServer, tmp_path: Path, limits: dict[str, object], staging: Staging | None
) -> None:
    """The client is told 250 as ever; envelope and acceptance say what is to become of the mail."""
    limit(bus, **limits)
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        begin(client)
        assert client.data(MAIL)[0] == 250
    ((envelope, _),) = stored(bus)
    assert envelope.staging == staging
    assert [event.staging for event in accepted(bus, 1)] == [staging.mode if staging else ""]


def test_a_change_reaches_open_sessions_at_every_process(bus: BusServer, tmp_path: Path) -> None:
    """Recipients and networks set while sessions are open hold from the next MAIL on; at AUTH nothing gives it away."""
    with pair(bus, tmp_path) as processes:
        clients = [log_in(ingress, password_of("alice")) for ingress in processes]
        for client in clients:
            begin(client)
            client.rset()
        limit(bus, recipients=("*@client.example",))
        for client in clients:

            def refused(client=client) -> bool:  # type: ignore[no-untyped-def]
                client.mail("a@shop.example")
                code, text = client.rcpt("b@y.example")
                client.rset()
                return (code, text[:5]) == (550, b"5.7.1") and b"may not send to b@y.example" in text

            until(refused)
            client.mail("a@shop.example")
            assert client.rcpt("b@client.example")[0] == 250
            client.rset()
        limit(bus, networks=("192.0.2.0/24",))
        for client, ingress in zip(clients, processes, strict=True):

            def disallowed(client=client) -> bool:  # type: ignore[no-untyped-def]
                client.rset()
                return b"no longer allowed" in client.mail("a@shop.example")[1]

            until(disallowed)
            # The clone in another configuration has no such limit, and logs in; alone the user would not.
            assert logs_in(ingress, password_of("alice"))
