"""A router: what comes in is kept, and handed on to two peers; a peer that is away gets it when it is back."""

import tempfile
import threading
from pathlib import Path

from pydicom.data import get_testdata_file

import dulcet

DONE = threading.Event()


class Forwarder(threading.Thread):
    """A thread for each destination: a folder of links is its queue, so a restart forgets nothing."""

    def __init__(self, queue: Path, address: dulcet.Address) -> None:
        super().__init__(daemon=True)
        self.queue, self.address = queue, address
        queue.mkdir(exist_ok=True)

    def add(self, path: Path) -> None:
        (self.queue / path.name).hardlink_to(path)

    def run(self) -> None:
        while not DONE.wait(0.2):
            waiting = sorted(self.queue.iterdir())
            try:
                if waiting:
                    with dulcet.associate(self.address, calling_ae_title="ROUTER") as association:
                        for sent in association.store_many(waiting):
                            if sent.ok:
                                sent.path.unlink()
            except dulcet.DulcetError as error:
                print("later:", type(error).__name__)


def main(folder: Path) -> None:
    near, far = dulcet.Node("NEAR"), dulcet.Node("FAR")
    for peer in (near, far):
        peer.on_store(lambda request: print(request.requestor.called_ae_title, "got it"))
    with far.threads() as gone:
        away = gone.address  # free again, and nobody there, from the end of this block on
    router = dulcet.Node("ROUTER", store_to=folder / "kept")
    with near.threads() as serving:
        forwarders = [Forwarder(folder / "near", serving.address), Forwarder(folder / "far", away)]
        router.on_store(lambda request: [found.add(request.path) for found in forwarders] and None)
        [forwarder.start() for forwarder in forwarders]
        with router.threads() as routing, dulcet.associate(routing.address) as association:
            association.store(get_testdata_file("CT_small.dcm", download=False)).check()
        DONE.wait(0.3)
        with far.threads(port=away.port):  # it is back
            while any(any(found.queue.iterdir()) for found in forwarders):
                DONE.wait(0.05)
        DONE.set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
