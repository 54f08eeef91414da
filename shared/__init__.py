"""Words and pipes every room uses; decides nothing.

mail      the vocabulary of mail: addresses, replies, identifiers (pure)
contract  what the rooms say to each other, declared once (pure)
bus       the only speaker of NATS
runtime   settings, logs, life cycle, clock, sealing
"""
