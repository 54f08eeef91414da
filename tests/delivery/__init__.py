"""Delivery above its cores: real sockets, real DNS packets, a real nats-server."""
