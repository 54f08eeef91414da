"""The real rspamd judges what is submitted: its test message is refused, an ordinary one goes on."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.command.ports import free_port
from tests.bus_server import BusServer
from tests.dialogues.test_server import accepted, connect, running, stored, with_tenants
from tests.ingress_process import IngressProcess, Tenants, seeded
from tests.judges.debian import environment, unpacked
from tests.system import eventually

pytestmark = pytest.mark.judge

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
MAIL = "From: App <a@{domain}>\r\nTo: b@y.example\r\nSubject: order\r\n\r\n{text}\r\n"
CONFIGURATION = """
options {{
  url_tld = "{root}/usr/share/rspamd/effective_tld_names.dat";
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.2s; retransmits = 1; }}
  filters = "";
  pidfile = "{here}/rspamd.pid"; cache_file = "{here}/symbols.cache"; history_file = "{here}/history";
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 15; "add header" = 6; greylist = 4; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
lua = "{root}/usr/share/rspamd/rules/rspamd.lua"
"""


@pytest.fixture
def rspamd(tmp_path: Path) -> Iterator[str]:
    """Run rspamd with a configuration of our own; give its URL."""
    root, here, port = unpacked("rspamd"), tmp_path / "rspamd", free_port()
    here.mkdir()
    share = root / "usr" / "share" / "rspamd"
    (here / "rspamd.conf").write_text(CONFIGURATION.format(root=root, here=here, port=port))
    places = {
        "SHAREDIR": share, "RULESDIR": share / "rules", "LUALIBDIR": share / "lualib", "PLUGINSDIR": share / "plugins",
        "CONFDIR": here, "DBDIR": here, "RUNDIR": here, "LOGDIR": here,
    }  # fmt: skip
    command = [str(root / "usr/bin/rspamd"), "-f", "-i", "-c", str(here / "rspamd.conf")]
    command += [f"--var={name}={place}" for name, place in places.items()]
    lua = f"{share}/lualib/?.lua;{share}/lualib/?/init.lua;;"
    log = here / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(root) | {"LUA_PATH": lua}, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/ping", trust_env=False).text.strip() == "pong"
        except httpx.HTTPError:
            return False

    eventually("rspamd answers", answers, 60)
    yield url
    process.terminate()
    process.wait(20)


def submit(ingress: IngressProcess, domain: str, text: str) -> tuple[int, str]:
    """Send one message and return the final reply."""
    with connect(ingress) as client:
        client.mail(f"a@{domain}")
        client.rcpt("b@y.example")
        code, said = client.data(MAIL.format(domain=domain, text=text))
    return code, said.decode()


def test_rspamd_is_understood(bus_server: BusServer, tmp_path: Path, rspamd: str) -> None:
    """Refused where the configuration refuses spam, remarked on where it warns, and not at all on ordinary mail."""

    async def policies(tenants: Tenants) -> None:
        await tenants.configuration("a", "shop", "shop.example", spam_policy="refuse")
        await tenants.configuration("a", "second", "second.example", spam_policy="warn")

    asyncio.run(seeded(bus_server))
    with_tenants(bus_server, policies)
    with running(bus_server, tmp_path, spam_url=rspamd, spam_unreachable="defer", spam_seconds="20") as ingress:
        assert submit(ingress, "shop.example", "Your order is on its way.")[0] == 250
        code, text = submit(ingress, "shop.example", GTUBE)
        assert code == 554
        assert "5.7.1 Refused by the content policy: the spam filter takes it for spam (reject" in text
        assert submit(ingress, "second.example", GTUBE)[0] == 250
        assert len(stored(bus_server)) == 2
        findings = {event.configuration: event.findings for event in accepted(bus_server, 2)}
    assert findings["shop"] == ()
    assert findings["second"][0].startswith("the spam filter takes it for spam (reject")
