"""What all engines in this process share: one thread, a queue in front of it, replies behind it."""
