"""The verifier vouches: it checks that each configuration's SPF and DKIM records are in DNS, again and again.

Owns and alone writes: the bucket `standing`, the bucket `checks` (who checks what when, and what was seen), the
broadcast `postlane.suspension.<configuration>`.
Reads: the bucket `directory` (configurations), DNS.
Never: changes a configuration, touches mail, suspends anybody because a question went unanswered.
"""
