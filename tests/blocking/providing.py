"""A provider made with `dulcet.listen`, each association in a thread of its own, that keeps what it is sent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dulcet
from dulcet.blocking.association import Association
from dulcet.blocking.requests import IncomingRequest

PATIENCE = 20.0


@dataclass(slots=True)
class Provider:
    """Where it listens, and what came."""

    address: str
    listener: dulcet.Listener
    stored: dict[str, list[bytes]] = field(default_factory=dict)
    """Data sets by SOP instance UID."""
    syntaxes: dict[str, str] = field(default_factory=dict)
    associations: list[Association] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    """What ended an association otherwise than by a release."""
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, request: IncomingRequest) -> None:
        """The default handler: keep the data set, answer with success."""
        data = request.read()
        with self.lock:
            self.stored.setdefault(request.sop_instance_uid, []).append(data)
            self.syntaxes[request.sop_instance_uid] = request.transfer_syntax
        request.respond(dulcet.Status.SUCCESS)

    def join(self) -> None:
        """Wait until every association is over, those included that were not even taken yet."""
        eventually(lambda: self.listener.count == 0)
        with self.lock:
            threads = list(self.threads)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "an association of the provider hangs"

    @property
    def endings(self) -> list[str | None]:
        return [association.ending for association in self.associations]


@contextmanager
def provider(
    handler: Callable[[Provider, IncomingRequest], object] | None = None,
    *,
    each: Callable[[Provider, Association], object] | None = None,
    host: str = "127.0.0.1",
    policy: dulcet.AcceptancePolicy | None = None,
    config: dulcet.AssociationConfig | None = None,
    **limits: int,
) -> Iterator[Provider]:
    """A provider in which `handler` gets each request, or `each` the whole association."""
    address = f"PROVIDER@{f'[{host}]' if ':' in host else host}:0"
    with dulcet.listen(address, policy=policy, config=config, **limits) as listener:
        made = Provider(str(listener.address), listener)

        def serve(association: Association) -> None:
            try:
                with association:
                    if each is not None:
                        each(made, association)
                        return
                    for request in association.requests():
                        if handler is not None:
                            handler(made, request)
                        else:
                            made.keep(request)
            except BaseException as error:
                made.errors.append(error)

        def accept() -> None:
            for association in listener:
                made.associations.append(association)
                thread = threading.Thread(target=serve, args=(association,), daemon=True)
                with made.lock:
                    thread.start()
                    made.threads.append(thread)

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield made
            made.join()
        finally:
            listener.close()
            accepting.join(PATIENCE)
            assert not accepting.is_alive()
            for association in made.associations:
                association.interrupt()
            made.join()


def eventually(condition: Callable[[], bool]) -> None:
    """Look again and again, until it holds or too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
