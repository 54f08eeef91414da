"""Tenants on a whole running system: a domain with its records, an approved configuration, a user, an open door."""

import re
import smtplib
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import dkim

from services.command.customer import ANSWERS
from services.sandbox import commands, zones
from tests.system import System, eventually, queue_id_of

DKIM: Any = dkim


class Tenant:
    """A domain of an instance of its own, onboarded step by step as its operator and customer would."""

    def __init__(self, system: System, domain: str, *, delegate: bool = False) -> None:
        self.system = system
        self.domain = domain
        self.zones = Path(system.ready["sandbox"]["directory"])
        self.instance = self.made("/v1/postlane/instances", {"name": domain})["id"]
        wish = {"name": domain, "domain": domain, "delegate": delegate}
        self.configuration = self.made(f"/v1/instances/{self.instance}/smtp/config", wish)["id"]
        self.own = f"/v1/postlane/instances/{self.instance}/configurations/{self.configuration}"
        self.ibm = f"/v1/instances/{self.instance}/smtp/config/{self.configuration}"
        self._user: dict[str, str] = {}

    def made(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Call the API as the operator; it must succeed."""
        answer = self.system.api(method, path, json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def publish(self, *kinds: str) -> None:
        """Publish the records the API asks for, all of them or those of some kinds."""
        for record in self.made(self.own + "/records?look=last", method="GET")["records"]:
            if record["value"] and (not kinds or record["kind"] in kinds):
                self.set(record["name"], record["type"], record["value"])

    def set(self, name: str, kind: str, value: str) -> None:
        """Publish one record."""
        commands.set_record(self.zones, name, kind, (value,))

    def remove(self, name: str, kind: str = "") -> None:
        """Take records of a name out of DNS."""
        commands.remove(self.zones, name, kind)

    def approve(self, **answers: Any) -> None:
        """Hand in the questionnaire and approve it."""
        filled = {**ANSWERS, "contacts": [f"dns@{self.domain}"], "reply_to": f"bounces@{self.domain}", **answers}
        self.made(self.own + "/authorization", filled, "PUT")
        self.made(self.own + "/authorization/approve", {"reason": ""})

    def ready(self) -> "Tenant":
        """Publish, verify, approve, make a user and open the door: the tenant may send."""
        self.publish()
        self.made(self.ibm + "/verify?type=dkim,spf", method="PATCH")
        self.approve()
        self._user = self.made(self.ibm + "/users", {})
        zone = self.made("/v1/zones", {
            "name": "here", "account_id": self.instance, "addresses": [{"type": "subnet", "value": "127.0.0.0/8"}],
        })  # fmt: skip
        resource = {"accountId": self.instance, "serviceName": "event-notifications"}
        smtp = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"
        self.made("/v1/rules", {
            "contexts": [{"attributes": [{"name": "networkZoneId", "value": zone["id"]}]}],
            "resources": [{"attributes": [{"name": name, "value": value} for name, value in resource.items()]}],
            "operations": {"api_types": [{"api_type_id": smtp}]},
        })  # fmt: skip
        eventually("the tenant may send", lambda: bool(self.overview()["sending"]))
        eventually("its mail is taken", self._may_send)
        return self

    def overview(self) -> Any:
        """Return the configuration at a glance."""
        return self.made(self.own, method="GET")["overview"]

    def _may_send(self) -> bool:
        """Whether ingress knows all of it: it hears of the directory and of the standing by two ways."""
        try:
            session = self.login()
        except smtplib.SMTPAuthenticationError:
            return False
        try:
            return session.mail(f"app@{self.domain}")[0] == 250
        finally:
            session.close()

    def login(self) -> smtplib.SMTP:
        """Return a session of the tenant's user; the caller quits."""
        session = smtplib.SMTP("127.0.0.1", self.system.ready["smtp"]["port"], timeout=30)
        session.starttls(context=self.system.trust())
        session.login(self._user["username"], self._user["password"])
        return session

    def submit(self, marker: str, to: str = "delivered@inbox.example") -> tuple[int, str]:
        """Submit a message whose subject is the marker; return the last reply."""
        session = self.login()
        try:
            code, text = session.mail(f"app@{self.domain}")
            if code == 250:
                code, text = session.rcpt(to)
            if code == 250:
                code, text = session.data(
                    f"From: App <app@{self.domain}>\r\nTo: <{to}>\r\nSubject: {marker}\r\n"
                    f"Message-ID: <{marker}@{self.domain}>\r\n\r\nHello.\r\n".encode()
                )
        finally:
            session.close()
        return code, text.decode()

    def send(self, marker: str, to: str = "delivered@inbox.example") -> str:
        """Submit a message that must be accepted; return its queue ID."""
        code, text = self.submit(marker, to)
        assert code == 250, text
        return queue_id_of(text)

    def arrived(self, marker: str, seconds: float = 60) -> bytes:
        """Wait for a message by its subject; return it as it arrived."""
        eventually(f"{marker} arrives", lambda: bool(self.copies(marker)), seconds)
        return self.copies(marker)[0]

    def copies(self, marker: str) -> list[bytes]:
        """Return every copy of a message that arrived."""
        wanted = re.compile(rb"^Subject: %s\r?$" % re.escape(marker.encode()), re.MULTILINE)
        return [mail for mail in self.system.arrived() if wanted.search(mail)]

    def signatures(self, mail: bytes) -> list[dict[str, str]]:
        """Return the tags of a mail's signatures, each of which a judge finds good with what DNS serves now."""
        parsed: Message = message_from_bytes(mail)
        fields = parsed.get_all("DKIM-Signature", [])
        for place in range(len(fields)):
            assert DKIM.DKIM(mail).verify(idx=place, dnsfunc=self._serve), fields[place]
        return [dict(re.findall(r"(\w+)=([^;]*)", re.sub(r"\s", "", field))) for field in fields]

    def _serve(self, name: bytes, timeout: int = 5) -> bytes:
        """Look a TXT record up in the sandbox's zones, through CNAMEs."""
        present = zones.read(self.zones)
        sets = present[zones.normal_name(name.decode().rstrip("."))]
        while "CNAME" in sets:
            sets = present[zones.normal_name(sets["CNAME"].values[0])]
        return sets["TXT"].values[0].encode()
