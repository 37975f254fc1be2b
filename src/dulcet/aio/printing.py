"""Grayscale printing as user (PS3.4 Annex H).

async with FilmSession(association, medium="BLUE FILM") as session:
    film = await session.film("STANDARD\\\\1,2")
    await film.place(1, grayscale_image(pixels, rows=512, columns=512))
    await film.print()
    await session.wait(60)
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.serving import serve_until, take_events
from dulcet.aio.twin import BegunOnEntry
from dulcet.errors import DulcetError
from dulcet.io.identity import new_uid
from dulcet.log_codes import coded
from dulcet.services.print_management import (
    FILM,
    IMAGE,
    JOB,
    META,
    PRINT,
    PRINTER,
    PRINTER_INSTANCE,
    SESSION,
    PrinterStatus,
    PrintEvent,
    film_box,
    film_session,
    image_box,
    image_boxes_of,
    print_job_of,
    read_event,
    read_printer,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.aio.association import Association
    from dulcet.aio.requests import IncomingRequest
    from dulcet.services.results import Response

__all__ = ["Film", "FilmSession", "printer_status"]

log: Final = logging.getLogger("dulcet.association")


async def printer_status(association: Association) -> PrinterStatus:
    """What the printer says of itself (N-GET, PS3.4 section H.4.6).

    `association` needs `PRINT_PROPOSALS`.  Raises StatusError when the printer does not answer that, ReceiveError when
    its answer does not decode; and what ends the association.
    """
    import pydicom

    # All there is: some printers refuse the request for one attribute that they do not have.
    response = (await association.n_get(PRINTER, PRINTER_INSTANCE, context=META)).check()
    return read_printer(response.dataset() or pydicom.Dataset())


class FilmSession(BegunOnEntry):
    """Films that are printed alike; a context manager that deletes the session at the end.

    Needs an association made with `PRINT_PROPOSALS`.  Each step raises StatusError when the printer refuses it; its
    warnings, such as B605H, are in the responses.
    """

    def __init__(self, association: Association, *, sop_instance_uid: str | None = None, **options: Any) -> None:
        """`association` needs `PRINT_PROPOSALS`; `sop_instance_uid` is that of the session, by default a new one.

        `options` are those of `dulcet.services.print_management.film_session`: `copies` (1), `priority` (HIGH, MED,
        LOW), `medium` (PAPER, CLEAR FILM, BLUE FILM, …), `destination`, `label`, further attributes by keyword (PS3.4
        Table H.4-1).
        Raises ValueError for less than one copy and for what is no keyword.
        """
        self.association = association
        self.events: list[PrintEvent] = []
        """What the printer reported since, of itself and of jobs."""
        self.jobs: list[str] = []
        """The print jobs, where the printer makes any."""
        self.sop_instance_uid: str = sop_instance_uid or new_uid()
        self._dataset = film_session(**options)
        self._open = False
        self._start()

    async def film(
        self, display_format: str = "STANDARD\\1,1", *, sop_instance_uid: str | None = None, **options: Any
    ) -> Film:
        """A sheet (N-CREATE of a film box, PS3.4 section H.4.2).

        `display_format` is how images lie on it, as STANDARD\\columns,rows (PS3.3 section C.13.3.1); `sop_instance_uid`
        is that of the film box, a new one where none is given.  `options` are those of
        `dulcet.services.print_management.film_box`: `orientation`, `size` (14INX17IN), `magnification`, further
        attributes by keyword.
        Raises ValueError for a format or keyword that does not exist, StatusError when the printer refuses.
        """
        uid = sop_instance_uid or new_uid()
        dataset = film_box(self.sop_instance_uid, display_format, **options)
        response = (await self.association.n_create(FILM, uid, dataset, context=META)).check()
        return Film(self, response.command.affected_sop_instance_uid or uid, image_boxes_of(response.dataset()))

    async def print(self) -> Response:
        """Print all films of the session, where the printer can (PS3.4 section H.4.1.2.4)."""
        return await self._print(SESSION, self.sop_instance_uid)

    async def wait(self, timeout: float) -> bool:
        """Wait until every job has ended, DONE or FAILURE (see `events`); False after `timeout` seconds.

        True at once where the printer made no job.  Raises what ends the association.
        """
        return await serve_until(self.association, lambda: not self._running(), timeout)

    async def delete(self) -> None:
        """Delete the session and its films; what is being printed is printed."""
        self._open = False
        (await self.association.n_delete(SESSION, self.sop_instance_uid, context=META)).check()

    async def _begin(self) -> None:
        take_events(self.association, frozenset((PRINTER, JOB)), self._heard)
        uid = self.sop_instance_uid
        response = (await self.association.n_create(SESSION, uid, self._dataset, context=META)).check()
        self.sop_instance_uid = response.command.affected_sop_instance_uid or uid
        self._open = True

    async def _print(self, sop_class_uid: str, sop_instance_uid: str) -> Response:
        response = (await self.association.n_action(sop_class_uid, sop_instance_uid, PRINT, context=META)).check()
        job = print_job_of(response.dataset())
        if job is not None:
            self.jobs.append(job)
        return response

    def _running(self) -> set[str]:
        return set(self.jobs) - {event.sop_instance_uid for event in self.events if event.ends_job}

    def _heard(self, request: IncomingRequest, information: Dataset) -> None:
        event_type = request.command.event_type_id
        self.events.append(read_event(request.sop_class_uid, request.sop_instance_uid, event_type, information))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        if kind is None:
            await self.delete()
            return
        try:
            await self.delete()
        except DulcetError as failure:  # what led here is what the caller must see
            log.warning(
                "%s: the film session could not be deleted: %s", self.association.peer, failure, extra=coded("DUL303")
            )


class Film:
    """A film box and its image boxes; what asks the printer raises StatusError when it refuses."""

    def __init__(self, session: FilmSession, sop_instance_uid: str, image_boxes: list[str]) -> None:
        """For `FilmSession.film`: `session`, `sop_instance_uid` of the film box, and the UIDs of its `image_boxes`."""
        self.session = session
        self.sop_instance_uid = sop_instance_uid
        self.image_boxes = image_boxes
        """The SOP instance UIDs of the image boxes, that of position 1 first."""

    async def place(self, position: int, image: Dataset | None, **keys: Any) -> Response:
        """Put an image, as `grayscale_image` makes it, into a box (N-SET, PS3.4 section H.4.3).

        `position` counts from 1; `image` None empties the box; `keys` are further attributes by keyword.
        Raises IndexError when there is no such box, ValueError for a position below 1, StatusError when the printer
        refuses.
        """
        dataset = image_box(position, image, **keys)
        if position > len(self.image_boxes):
            raise IndexError(f"image position {position}: the printer made {len(self.image_boxes)} image boxes")
        uid = self.image_boxes[position - 1]
        return (await self.session.association.n_set(IMAGE, uid, dataset, context=META)).check()

    async def print(self) -> Response:
        """Print it (N-ACTION)."""
        return await self.session._print(FILM, self.sop_instance_uid)

    async def delete(self) -> None:
        """Delete it (N-DELETE)."""
        (await self.session.association.n_delete(FILM, self.sop_instance_uid, context=META)).check()
