"""gunicorn's worker with threads, which stops listening when it is asked to end."""

from __future__ import annotations

from .gatherer import Gatherer


class Worker(Gatherer):
    """Serves whoever has reached it before SIGTERM, and refuses whoever comes after.

    gunicorn's own leaves its socket open until the last request is answered: the kernel goes on taking connections
    that nobody will serve, and cuts them at the end. Refused at once, a proxy or an SDK goes elsewhere at once. During
    a reload nothing changes for them, as the socket is open in the other workers.
    """

    def set_accept_enabled(self, enabled: bool) -> None:  # gunicorn's signature
        """Begin or stop to take connections."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:  # one that is asked to end before it has begun is asked to accept first
            listeners: list[object] = self.sockets
            self.sockets: list[object] = []
            for listener in listeners:
                self._close(listener)

    def _close(self, listener: object) -> None:
        """Close a socket once nobody is left in its queue: they have connected, and may have sent their request."""
        taken = -1
        while taken != self.nr_conns < self.worker_connections:
            taken = self.nr_conns
            self.accept(listener)
        listener.close()  # type: ignore[attr-defined]
