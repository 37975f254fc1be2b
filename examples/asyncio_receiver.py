"""Receive inside an asyncio program: one queue, one worker, and whatever else the loop has to do."""

import asyncio
import tempfile
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

import dulcet


async def work(arrived: asyncio.Queue) -> None:
    """Look at each file; reading it blocks, so a thread does it."""
    while True:
        path = await arrived.get()
        header = await asyncio.to_thread(dcmread, path, stop_before_pixels=True)
        print("worked on", header.Modality, "of", header.PatientName)
        arrived.task_done()


async def heartbeat() -> None:
    """Something else that the loop does, and that receiving does not hold up."""
    while True:
        await asyncio.sleep(0.01)


async def main(folder: Path) -> None:
    arrived: asyncio.Queue = asyncio.Queue(maxsize=100)  # when it is full, senders wait for their answers
    node = dulcet.Node("RECEIVER", store_to=folder)

    @node.on_store
    async def keep(request):
        await arrived.put(request.path)

    others = [asyncio.create_task(work(arrived)), asyncio.create_task(heartbeat())]
    async with node.start("127.0.0.1") as server:
        files = [get_testdata_file(name, download=False) for name in ("CT_small.dcm", "MR_small.dcm")]
        async with dulcet.aio.associate(server.address, calling_ae_title="CT1") as association:
            async for sent in association.store_many(files):
                print("sent", sent.status)
        await asyncio.wait_for(arrived.join(), 10)
    for task in others:
        task.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
