"""The management API: IBM's operations in IBM's shape, and what IBM does not have below `/v1/postlane`.

/v1/instances/{instance_id}/smtp/config…      configurations, users, verify, allowed IPs    (IBM; configurations.py)
/v1/instances/{instance_id}/metrics…          counts and bounces                            (IBM; metrics.py)
/v1/zones, /v1/rules, /v1/operations, …       context-based restrictions                    (IBM; zones.py, rules.py)
/identity/token                               an API key for a short-lived token            (IBM; tokens.py)
/v1/postlane/self, /endpoints                 who calls; where to send                      (endpoints.py)
/v1/postlane/doctor                           how everything is                             (doctor.py)
/v1/postlane/instances…                       tenants                                       (tenants.py)
/v1/postlane/instances…/configurations…       what is lacking, standing, preferences        (onboarding.py)
/v1/postlane/instances…/authorization, …      questionnaire, decision, suspension           (decisions.py)
/v1/postlane/instances…/records, /dkim        DNS records, signing keys                     (records.py, dkim.py)
/v1/postlane/instances…/takeovers             proving a domain another instance has         (takeovers.py)
/v1/postlane/instances…/clients/events        what clients do, live                        (clients.py)
/v1/postlane/messages…, /refusals, /queue     what became of mail, and acting on it         (messages.py, queue.py)
/v1/postlane/instances…/captured              staged mail that was kept                     (captured.py)
/v1/postlane/keys, /audit                     API keys, who changed what                    (keys.py)

An instance is its own account: `account_id` of IBM's restrictions is the instance's ID. IBM's operations answer with
and without the prefix `/event-notifications`. Another instance's object answers exactly like one that does not exist.
"""
