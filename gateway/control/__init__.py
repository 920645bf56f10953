"""Background owners: health, reload, drain, and the engines they look after."""
