"""A listener beside a window: receiving runs in threads of its own, and the window's loop takes what came from a queue.

A plain loop stands for the window here; with Tkinter, `take` is called by `root.after(50, take)`, with Qt by a QTimer.
"""

import queue
import tempfile
import threading
import time
from pathlib import Path

from pydicom.data import get_testdata_file

import dulcet


class Window:
    """What a toolkit's window does: everything in one thread, nothing that blocks."""

    def __init__(self, folder: Path) -> None:
        self.arrived: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.shown: list[str] = []
        node = dulcet.Node("VIEWER", store_to=folder)
        node.on_store(lambda request: self.arrived.put(request.path))  # in a thread of the association
        self.listener = node.threads()  # returns at once
        self.address = self.listener.address

    def take(self) -> None:
        """Called by the window's timer: take what is there, wait for nothing."""
        while not self.arrived.empty():
            path = self.arrived.get()
            self.shown.append(path.name)
            ours = threading.current_thread() is threading.main_thread()
            print("shown:", path.suffix, "in the window's thread:", ours)

    def close(self) -> None:
        """Called when the window closes: those who are sending have two seconds."""
        print("nobody was cut off:", self.listener.stop(2.0))


def modality(address: dulcet.Address) -> None:
    with dulcet.associate(address, calling_ae_title="CT1") as association:
        association.store(get_testdata_file("CT_small.dcm", download=False)).check()


def main(folder: Path) -> None:
    window = Window(folder)
    threading.Thread(target=modality, args=(window.address,)).start()
    end = time.monotonic() + 30
    while not window.shown and time.monotonic() < end:  # the toolkit's main loop
        window.take()
        time.sleep(0.02)
    window.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
