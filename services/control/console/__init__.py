"""The web console: pages over the management API, for whoever has an API key and no terminal at hand."""
