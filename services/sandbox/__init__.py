"""The sandbox pretends: a name server and a mail exchanger, so that everything can be tried without the Internet.

Owns: its directory, with the zones it serves, the certificate of its exchanger, the Maildir of what it accepted,
the ledger of deliveries and the counts of scripted deferrals.
Reads: nothing of the product; it is not on the bus.
Never: runs in production, sends anything anywhere, changes an octet of a message it accepted.
"""
