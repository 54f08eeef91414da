"""The only speaker of NATS: connection, streams, buckets, services, provisioning and the server's configuration."""
