"""A browser as far as the console is concerned: cookies, links, and forms filled in as the page has them."""

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
from justhtml import JustHTML

EMPTY: Mapping[str, str] = {}


class Form:
    """A form of a page: where it goes, and the fields it has with what is in them."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.fields: dict[str, str] = {}
        self.buttons: list[dict[str, str]] = []


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select = ""
        self._area = ""
        self._option: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        if not self.forms:
            return
        fields = self.forms[-1].fields
        if tag == "input" and "name" in given and given.get("type") != "checkbox":
            fields[given["name"]] = given.get("value", "")
        elif tag == "button" and "name" in given:
            self.forms[-1].buttons.append({given["name"]: given["value"]})
        elif tag == "select":
            self._select = given["name"]
        elif tag == "textarea":
            self._area = given["name"]
            fields[self._area] = ""
        elif tag == "option" and (self._select not in fields or "selected" in given):
            self._option = given.get("value")
            fields[self._select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1].fields[self._area] += data
        elif self._select and self._option is None and self.forms[-1].fields.get(self._select) == "":
            self.forms[-1].fields[self._select] = data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select, self._option = "", None


class Browser:
    """One visitor of the console; every page it gets must be well-formed HTML that nothing foreign can get into."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=url, trust_env=False, follow_redirects=True, timeout=30, **options)
        self.origin = url
        self.page = ""
        self.where = ""

    @classmethod
    def of(cls, client: httpx.Client) -> "Browser":
        """Return one that is signed in with the key that a client of the API shows."""
        made = cls(str(client.base_url).rstrip("/"))
        made.sign_in(client.headers["Authorization"].removeprefix("Bearer "))
        return made

    def post(self, where: str, status: int, **form: str) -> str:
        """Send a form that the page does not have; return the page that follows."""
        return self._shown(self.client.post(where, data=form, headers={"Origin": self.origin}), status)

    def open(self, where: str, status: int = 200) -> str:
        """Open a page; return its text."""
        return self._shown(self.client.get(where), status)

    def sign_in(self, key: str) -> str:
        """Sign in."""
        self.open("/console/sign-in")
        return self.submit("/sign-in", key=key)

    def form(self, action: str, nth: int = 0) -> Form:
        """Return a form of the page that goes to a path which ends so."""
        reader = _Reader()
        reader.feed(self.page)
        found = [form for form in reader.forms if urljoin(self.where, form.action or self.where).endswith(action)]
        assert len(found) > nth, (action, [form.action for form in reader.forms])
        return found[nth]

    def submit(
        self, action: str, answers: Mapping[str, str] = EMPTY, status: int = 200, nth: int = 0, **more: str
    ) -> str:
        """Fill in the form that goes there, send it, and return the page that follows."""
        form = self.form(action, nth)
        target = urljoin(self.where, form.action or self.where)
        headers = {"Origin": self.origin}
        if form.method == "get":
            return self._shown(self.client.get(target, params={**form.fields, **answers, **more}), status)
        return self._shown(self.client.post(target, data={**form.fields, **answers, **more}, headers=headers), status)

    def _shown(self, response: httpx.Response, status: int) -> str:
        self.page, self.where = response.text, str(response.url)
        assert response.status_code == status, (response.status_code, self.where, self.page)
        assert "script" not in response.headers["content-security-policy"]
        assert response.headers["content-security-policy"].startswith("default-src 'none';")
        assert response.headers["cache-control"] == "no-store"
        faults = JustHTML(self.page, collect_errors=True).errors
        assert faults == [], (self.where, faults, self.page)
        return self.page
