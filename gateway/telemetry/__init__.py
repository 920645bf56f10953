"""What the gateway tells about itself: metrics, spans and one access line per request.

`names` holds every name, `record` the one object that all three are made from. Nothing here
knows the configuration or the event loop's tasks; `app.py` builds one of each and hands them on.
"""
