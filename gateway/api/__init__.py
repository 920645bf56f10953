"""What clients see: routes, the inference handler, the relay, authentication."""
