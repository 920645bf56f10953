"""What `discover` in routing.yaml can say: where a backend's replicas are told. Only structs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from backends.units import Duration, Timeout

_DnsUrl = Annotated[
    str,
    Meta(
        pattern=r"^http://[A-Za-z0-9_][A-Za-z0-9_.-]*(:[0-9]{1,5})?(/[^\s?#]*)?$",
        description="a URL with a host name, such as http://llama.internal:8080",
    ),
]
_SrvUrl = Annotated[
    str,
    Meta(
        pattern=r"^https?://[A-Za-z0-9_][A-Za-z0-9_.-]*(/[^\s?#]*)?$",
        description="a URL with the name of a service, such as http://_llama._tcp.internal",
    ),
]
_Nameserver = Annotated[
    str,
    Meta(
        pattern=r"^([0-9.]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?$",
        description="an address such as 10.0.0.2 or 127.0.0.1:8600",
    ),
]


class Discover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the replicas are told, in place of `replicas`: one of `dns`, `srv` and `file`."""

    dns: _DnsUrl | None = None
    """A replica at each address of this host name; IPv6 where there is no other."""
    srv: _SrvUrl | None = None
    """A replica at each target of this name's SRV records, of the lowest priority."""
    file: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    """A list of replicas as under `replicas`, in YAML or JSON; relative to the file naming it."""
    every: Timeout = Timeout(10)
    """How often to look; a name's time to live makes that sooner, and never later."""
    nameserver: _Nameserver | None = None
    """Whom to ask, in place of the machine's own."""
    removal_grace: Duration = Duration(120)
    """For how long one that is missing in an answer stays, as long as it answers its probes, where
    the resolver is seen to tell of some at a time; 0 for never."""

    @property
    def source(self) -> Discover:
        """The same for all that find the same."""
        return msgspec.structs.replace(self, every=Timeout(10), removal_grace=Duration(120))

    @property
    def where(self) -> str:
        """It, in few words."""
        named = {"dns": self.dns, "srv": self.srv, "file": self.file}
        return " ".join(f"{kind} {what}" for kind, what in named.items() if what is not None)
