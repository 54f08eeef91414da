"""The verifier vouches: it checks that each configuration's SPF and DKIM records are in DNS, again and again.

Owns: standings, DNS observations, the schedule of checks.
Reads: the bucket `directory` (configurations, contacts), DNS.
Writes: the buckets `standing` and `checks`, the broadcast `postlane.suspension.<configuration>`, the stream NOTICES.
Never: changes a configuration, touches mail, suspends anybody because a question went unanswered.
"""
