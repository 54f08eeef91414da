"""Control administers: the management API over HTTP and the one writer of the directory.

owns    directory (instances, configurations, users, zones, rules, authorizations, operator suspensions), DKIM keys,
        API keys, the audit log
reads   everything, through the bus: standing, status; asks verifier, tracker and delivery
writes  the buckets `directory`, `keys`, `access`; the streams AUDIT and NOTICES
never   touches mail
"""
