"""What every process needs to run: settings, logs, life cycle, health, clock, secrets, certificates."""
