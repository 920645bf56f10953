"""Engines that the gateway starts itself: what is run, who watches it, and when it is stopped."""
