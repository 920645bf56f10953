"""Engines: how each kind is reached, and nothing about who is asking.

This package never imports `gateway`. A new kind of engine is a file with its adapter, and its
options with their name in `BackendOptions`, in `options/`.
"""
