"""Bytes in, values out: the formats on the wire, without any I/O."""
