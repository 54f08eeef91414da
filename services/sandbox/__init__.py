"""The sandbox pretends: a name server and a mail exchanger, so that everything can be tried without the Internet.

Owns: its directory.
Reads: the zones in it, which commands may change while it runs; nothing of the product, it is not on the bus.
Writes: the certificate of its exchanger, the Maildir and the ledger of what it accepted, the counts of scripted
deferrals.
Never: runs in production, sends anything anywhere, changes an octet of a message it accepted.
"""
