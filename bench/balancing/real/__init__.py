"""The same two effects on real engines: llama-servers with prompt caches, behind a real gateway."""
