"""A web application that receives: dulcet serves in its loop, from its start to its end, and a page tells what came.

`uvicorn web_receiver:app` serves it for real, on port 11112 for DICOM; run as a program, it shows itself.
"""

import json
import os
import tempfile
import threading
import time
from collections import deque
from contextlib import asynccontextmanager
from urllib.request import urlopen

import uvicorn
from pydicom.data import get_testdata_file
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import dulcet

arrived: deque = deque(maxlen=1000)
node = dulcet.Node("RECEIVER", store_to=os.environ.get("INCOMING") or tempfile.mkdtemp())


@node.on_store
async def keep(request):
    """The file is on the disk; once this returns, the sender is told 0000H."""
    arrived.append({"uid": request.sop_instance_uid, "from": request.requestor.calling_ae_title})


@asynccontextmanager
async def lifespan(app):
    server = await node.start("127.0.0.1", int(os.environ.get("DICOM_PORT", "11112")))
    app.state.dicom = server.address
    yield
    await server.stop(10)  # those who send may finish, for ten seconds


async def instances(request):
    return JSONResponse(list(arrived))


app = Starlette(routes=[Route("/instances", instances)], lifespan=lifespan)  # FastAPI(lifespan=lifespan) likewise

if __name__ == "__main__":
    os.environ["DICOM_PORT"] = "0"  # a free one
    web = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    while thread.is_alive() and not web.started:
        time.sleep(0.01)
    with dulcet.associate(app.state.dicom, calling_ae_title="CT1") as association:
        association.store(get_testdata_file("CT_small.dcm")).check()
    host, port = web.servers[0].sockets[0].getsockname()
    print(json.load(urlopen(f"http://{host}:{port}/instances")))
    web.should_exit = True
    thread.join()
