"""DNS records in the forms a person, a name server and Terraform want."""

import re

import dns.zone

from services.command.admin.records import Provider, quoted, terraform_lines, zone_lines

LONG = "v=DKIM1; k=rsa; p=" + "A" * 400
RECORDS = [
    {"kind": "dkim", "type": "TXT", "name": "s._domainkey.example.com", "value": LONG, "state": "missing",
     "detail": "there is none", "observed": []},
    {"kind": "spf", "type": "TXT", "name": "example.com", "value": 'v=spf1 exists:%{i}.x.example "q" \\ -all',
     "state": "wrong", "detail": "not ours", "observed": ["v=spf1 -all"]},
    {"kind": "dkim-spare", "type": "CNAME", "name": "t._domainkey.example.com", "value": "t.dkim.relay.example.",
     "state": "advised", "detail": "later", "observed": []},
    {"kind": "return-path", "type": "MX", "name": "example.com", "value": "", "state": "fine", "detail": "good",
     "observed": ["mx.example.com"]},
]  # fmt: skip


def test_a_zone_file_has_strings_of_255_octets_and_nothing_for_the_customer_to_fill_in() -> None:
    """Each record is one line with a comment before it; what has no value is only the comment."""
    lines = list(zone_lines(RECORDS))
    texts = [re.findall(r'"((?:[^"\\]|\\.)*)"', line) for line in lines if " TXT " in line]
    assert "".join(texts[0]) == LONG
    assert all(len(piece) <= 255 for each in texts for piece in each)
    assert "t._domainkey.example.com. 3600 IN CNAME t.dkim.relay.example." in lines
    assert [line for line in lines if not line.startswith(";")][-1].startswith("t._domainkey")
    zone = dns.zone.from_text("\n".join(lines), "example.com", relativize=False, check_origin=False)
    (published,) = zone.find_rdataset("s._domainkey.example.com.", "TXT")
    assert b"".join(published.strings).decode() == LONG
    assert quoted('a"b\\') == '"a\\"b\\\\"'


def test_terraform_takes_macros_and_quotes_literally() -> None:
    """`%{` begins a template in Terraform and a macro in SPF; Route 53 wants long values in parts."""
    text = "\n".join(terraform_lines(RECORDS, Provider.aws))
    assert 'resource "aws_route53_record" "postlane_dkim_s__domainkey_example_com"' in text
    assert "%%{i}" in text
    (value,) = re.findall(r'records = \["(v=DKIM1.*)"\]', text)
    assert [len(part) for part in value.split('\\"\\"')] == [255, len(LONG) - 255]
    assert text.count("resource ") == 3
    other = "\n".join(terraform_lines(RECORDS, Provider.cloudflare))
    assert 'content = "t.dkim.relay.example"' in other
