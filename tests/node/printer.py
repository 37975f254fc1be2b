"""A printer on a node: films in memory, jobs that end at once; just enough to be printed on."""

from __future__ import annotations

import dulcet
from dulcet.io.identity import new_uid
from dulcet.node.actions import ReportHere
from dulcet.services.identifiers import build_identifier
from dulcet.services.print_management import FILM, IMAGE, JOB, META, PRINTER, PRINTER_INSTANCE, SESSION, image_count
from dulcet.services.proposals import UNCOMPRESSED_PREFERENCE


class Printer:
    """`sheets` are the films that were printed, as lists of image items."""

    def __init__(self, *, job_ends: int | None = 3, warning: int = 0) -> None:
        self.sheets: list[list[object]] = []
        self.deleted: list[str] = []
        self.job_ends = job_ends
        self.warning = warning
        self._boxes: dict[str, list[str]] = {}
        self._images: dict[str, object] = {}
        self.node = dulcet.Node("PRINTER")
        self.node.on_n_create(lambda request: None, classes=[SESSION])
        self.node.on_n_create(self._create_film, classes=[FILM])
        self.node.on_n_set(self._set_image, classes=[IMAGE])
        self.node.on_n_action(self._print, classes=[FILM])
        self.node.on_n_delete(lambda request: self.deleted.append(request.sop_instance_uid), classes=[SESSION, FILM])
        self.node.on_n_get(
            lambda request: build_identifier({"PrinterStatus": "NORMAL", "PrinterName": "paper"}), classes=[PRINTER]
        )
        self.node.extra_syntaxes.update({META: UNCOMPRESSED_PREFERENCE, JOB: UNCOMPRESSED_PREFERENCE})

    def _create_film(self, request):
        boxes = [new_uid() for _ in range(image_count(request.dataset.ImageDisplayFormat))]
        self._boxes[request.sop_instance_uid] = boxes
        items = [{"ReferencedSOPClassUID": IMAGE, "ReferencedSOPInstanceUID": uid} for uid in boxes]
        return self.warning, build_identifier({"ReferencedImageBoxSequence": items})

    def _set_image(self, request):
        self._images[request.sop_instance_uid] = request.dataset.BasicGrayscaleImageSequence[0]

    def _print(self, request):
        self.sheets.append([self._images.get(uid) for uid in self._boxes[request.sop_instance_uid]])
        if self.job_ends is None:
            return dulcet.Status.SUCCESS
        job = new_uid()
        item = {"ReferencedSOPClassUID": JOB, "ReferencedSOPInstanceUID": job}
        return dulcet.Answer(
            0, build_identifier({"ReferencedPrintJobSequence": [item]}), then=lambda: self._events(job)
        )

    _print.reports_here = True  # type: ignore[attr-defined]

    def _events(self, job):
        information = build_identifier({"ExecutionStatusInfo": "NORMAL"})
        yield ReportHere(PRINTER, PRINTER_INSTANCE, 2, build_identifier({"PrinterStatusInfo": "SUPPLY LOW"}), META)
        yield ReportHere(JOB, job, 2, information)
        yield ReportHere(JOB, job, self.job_ends, information)
