"""Programs that make what the project ships; nothing in the gateway imports them."""
