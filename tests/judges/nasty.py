"""Two hundred messages that make signers and servers stumble: every odd header with every odd body."""

import itertools

HEADERS: dict[str, bytes] = {
    "plain": b"Subject: {marker}\r\n",
    "folded": b"Subject: {marker}\r\n and a\r\n\tfold  \r\n  and more\r\n",
    "trailing space": b"Subject: {marker}   \r\nX-Empty:\r\nX-Spaces:   \r\n",
    "long": b"Subject: {marker}\r\nX-Long: " + b"x" * 980 + b"\r\n",
    "many": b"Subject: {marker}\r\n" + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(200)),
    "encoded": b"Subject: {marker} =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nTo: =?utf-8?b?QW5u?= <ann@there.example>\r\n",
    "odd case": b"suBJect: {marker}\r\nMIME-version: 1.0\r\ncontent-TYPE: text/plain; charset=utf-8\r\n",
    "unsubscribe": b"Subject: {marker}\r\nList-Unsubscribe: <https://x.example/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nReply-To: a@demo.example\r\nCc: c@there.example\r\n",
    "references": b"Subject: {marker}\r\nReferences: <1@x.example>\r\n <2@x.example>\r\nIn-Reply-To: <2@x.example>\r\n",
    "signed before": b"Subject: {marker}\r\nDKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from;"
    b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n",
}
BODIES: dict[str, bytes] = {
    "empty": b"",
    "one empty line": b"\r\n",
    "empty lines at the end": b"text\r\n" + b"\r\n" * 12,
    "trailing space": b"a  \r\nb\t \r\n c\r\n",
    "only spaces": b"   \r\n \t\r\n",
    "space lines at the end": b"a\r\n \r\n\t\r\n",
    "dot lines": b".\r\n..\r\n.a\r\n...\r\n",
    "998 octets": b"y" * 998 + b"\r\n" + b"." + b"z" * 997 + b"\r\n",
    "runs of blanks": b"a\t\tb    c \t d\r\n" * 40,
    "8-bit": "Grüße, 😀 and more.\r\n".encode() * 20,
    "not UTF-8": b"\xff\xfe\x80 latin \xe4\r\n" * 5,
    "From lines": b"From here on\r\n>From there\r\n\r\nFrom the end\r\n",
    "no final line end": b"the last line has no end",
    "multipart": b"--b\r\nContent-Type: text/plain\r\n\r\none\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>two</p>\r\n--b--\r\n",
    "quoted-printable": b"a=20=\r\nb=3D3D=\r\n=20\r\n",
    "soft returns": b"x " * 300 + b"\r\n",
    "control characters": b"\x01\x0b\x0c\x1b[0m\x7f\r\n",
    "looks like SMTP": b"QUIT\r\nMAIL FROM:<x@y.example>\r\n250 Ok\r\n",
    "large": b"The quick brown  fox\tjumps over the lazy dog. \r\n" * 2_000,
    "many short lines": b"a\r\n" * 5_000,
}


def messages(domain: str, to: str) -> dict[str, bytes]:
    """Return the messages by their marker, which is in their subject."""
    made = {}
    for number, ((head, fields), (body, text)) in enumerate(itertools.product(HEADERS.items(), BODIES.items())):
        marker = f"nasty-{number:03}"
        front = f"From: App <app@{domain}>\r\nMessage-ID: <{marker}@{domain}>\r\nX-Case: {head}, {body}\r\n"
        if b"To:" not in fields:
            front += f"To: <{to}>\r\n"
        front += "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        if body == "multipart" and b"content-TYPE" not in fields:
            front += 'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="b"\r\n'
        made[marker] = front.encode() + fields.replace(b"{marker}", marker.encode()) + b"\r\n" + text
    return made
