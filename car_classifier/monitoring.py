"""A small web server beside the classifier service: what it counts, and how it is.

``/metrics`` is for Prometheus; ``/healthz`` says whether the process is alive and ``/readyz``
whether photos are being answered: 200 and "ok", or 503 and what is in the way.

Needs the optional package prometheus-client (requirements/metrics.txt).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from types import TracebackType

from prometheus_client import MetricsHandler

from car_classifier.consuming import PhotoStream
from car_classifier.errors import SettingsError
from car_classifier.health import Health
from car_classifier.metrics import Metrics, TimedClassifier
from car_classifier.model import Classifier

__all__ = ["Monitor"]

REQUEST_SECONDS = 5.0  # for a client that connects and says nothing


class Monitor:
    """Serves the three pages from when it is made until the end of its ``with`` block.

    Attributes:
        metrics: what is counted; a sink, to be the last one.
        port: where it listens.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """

    def __init__(self, host: str, port: int) -> None:
        self.metrics = Metrics()
        self._health = Health()
        self.metrics.show_ready(lambda: self._health.obstacle() is None)
        try:
            self._server = _Server((host, port), self.metrics, self._health)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port} for metrics: {error.strerror or error} "
                "(--metrics-port, --metrics-host)"
            ) from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="monitor", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def heard_in(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        """The same function; asking it is a sign of life."""
        return self._health.heard_in(stopped)

    def model_loaded(self, classifier: Classifier) -> TimedClassifier:
        """Note which model it is; return it with a stopwatch."""
        timed = self.metrics.model_loaded(classifier)
        self._health.model_loaded()
        return timed

    def watch(self, stream: PhotoStream) -> None:
        """Show the lag of this stream, and call the service ready once it has partitions."""
        self.metrics.watch(stream.state)
        self._health.watch(stream.state)


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a slow client does not keep the service from ending

    def __init__(self, address: tuple[str, int], metrics: Metrics, health: Health) -> None:
        pages = {"/healthz": health.hung, "/readyz": health.obstacle}

        class Handler(MetricsHandler):
            registry = metrics.registry
            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                page = self.path.split("?")[0]
                if page == "/metrics":
                    super().do_GET()
                elif page in pages:
                    wrong = pages[page]()
                    self._say(503 if wrong else 200, wrong or "ok")
                else:
                    self._say(404, "there are /metrics, /healthz and /readyz")

            def _say(self, status: int, text: str) -> None:
                body = f"{text}\n".encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is nothing to tell anybody about."""
