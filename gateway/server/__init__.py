"""The listening side: uvicorn, with limits on what a client may do beside a handler's back."""

from gateway.server.listen import ListenError, listen
from gateway.server.server import GatewayServer

__all__ = ["GatewayServer", "ListenError", "listen"]
