"""Who is asking, and what they may ask for."""

from __future__ import annotations

from gateway.config.names import Glob
from gateway.errors import Forbidden
from gateway.routing.admission import Priority
from gateway.routing.table import Route


class Principal:
    """The holder of an API key. Immutable."""

    __slots__ = ("_globs", "admin", "max_priority", "name", "usual_priority")

    def __init__(
        self,
        name: str,
        models: tuple[str, ...],
        *,
        max_priority: Priority = Priority.NORMAL,
        admin: bool = False,
    ) -> None:
        self.name = name
        self.max_priority = max_priority
        """No request of this key is more urgent than that."""
        self.usual_priority = max(Priority.NORMAL, max_priority)
        """What one is that says nothing."""
        self.admin = admin
        self._globs = tuple(Glob(model) for model in models)

    def may_use(self, model: str) -> bool:
        """Whether `model`, a name in routing.yaml, is one of this key's models."""
        return not self._globs or any(glob.matches(model) for glob in self._globs)

    def require(self, route: Route) -> None:
        """Raises `Forbidden` where this key may not use `route`."""
        if not self.may_use(route.name):
            raise Forbidden(
                f"the key {self.name!r} may not use the model {route.name!r}",
                param="model",
                code="model_not_allowed",
            )
