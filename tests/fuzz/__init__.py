"""The parsers that strangers' octets reach, fed with anything: targets, and the cases that once taught something."""
