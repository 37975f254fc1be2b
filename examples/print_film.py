"""Grayscale print: two images on a film, and the printer's word that they are printed.

The printer here is a node of a few lines that counts sheets; a real one is called in the same way.
"""

import dulcet
from dulcet.blocking.printing import FilmSession, printer_status
from dulcet.io.identity import new_uid
from dulcet.node.actions import ReportHere
from dulcet.services import print_management as printing
from dulcet.services.identifiers import build_identifier


def make_printer() -> dulcet.Node:
    printer = dulcet.Node("PRINTER")
    printer.extra_syntaxes.update({printing.META: (), printing.JOB: ()})
    printer.on_n_get(lambda request: build_identifier({"PrinterStatus": "NORMAL"}), classes=[printing.PRINTER])
    printer.on_n_create(lambda request: None, classes=[printing.SESSION])
    printer.on_n_set(
        lambda request: print("printer: image", request.dataset.ImageBoxPosition), classes=[printing.IMAGE]
    )
    printer.on_n_delete(lambda request: print("printer: session over"), classes=[printing.SESSION])

    @printer.on_n_create(classes=[printing.FILM])
    def create_film(request):
        count = printing.image_count(request.dataset.ImageDisplayFormat)
        boxes = [{"ReferencedSOPClassUID": printing.IMAGE, "ReferencedSOPInstanceUID": new_uid()} for _ in range(count)]
        return build_identifier({"ReferencedImageBoxSequence": boxes})

    @printer.on_n_action(classes=[printing.FILM])
    def print_film(request):
        job = {"ReferencedSOPClassUID": printing.JOB, "ReferencedSOPInstanceUID": new_uid()}

        def then():
            yield ReportHere(printing.JOB, job["ReferencedSOPInstanceUID"], 3, None)  # event 3: done

        return dulcet.Answer(0, build_identifier({"ReferencedPrintJobSequence": [job]}), then=then)

    return printer


def main() -> None:
    gradient = printing.grayscale_image(bytes(range(256)) * 64, rows=64, columns=256)
    with (
        make_printer().threads() as serving,
        dulcet.associate(serving.address, contexts=printing.PRINT_PROPOSALS) as association,
    ):
        print("the printer is", printer_status(association).status)
        with FilmSession(association, medium="BLUE FILM") as session:
            film = session.film("STANDARD\\1,2", orientation="PORTRAIT", size="14INX17IN")
            film.place(1, gradient)
            film.place(2, gradient)
            film.print()
            session.wait(30)
            print("job:", [event.status for event in session.events])


if __name__ == "__main__":
    main()
