"""Films printed on a node's printer, and notifications of what is available."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.node.printer import Printer
from tests.node.serving import FACES, served
from tests.services.test_availability import INSTANCES

import dulcet
from dulcet.blocking.availability import notify_availability
from dulcet.blocking.printing import FilmSession, printer_status
from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.node.availability import InstanceAvailability
from dulcet.services.availability import AVAILABILITY_PROPOSALS, SOP_CLASS
from dulcet.services.identifiers import build_identifier
from dulcet.services.print_management import PRINT_PROPOSALS, PrinterStatus, grayscale_image
from dulcet.services.refusals import Refused

WAIT = 20.0
IMAGE = grayscale_image(bytes(range(64)), rows=8, columns=8)


@contextmanager
def printing(*, face: str = "threads", **options: object) -> Iterator[tuple[dulcet.Association, Printer]]:
    printer = Printer(**options)
    with served(printer.node, face) as address, dulcet.associate(address, contexts=PRINT_PROPOSALS) as association:
        yield association, printer


@pytest.mark.parametrize("face", FACES)
def test_a_film_is_printed(face):
    with printing(face=face) as (association, printer):
        with FilmSession(association, copies=2, medium="BLUE FILM") as session:
            film = session.film("STANDARD\\2,1")
            film.place(1, IMAGE)
            film.place(2, IMAGE)
            film.print()
            assert session.wait(WAIT)
            assert [(event.status, event.of_job) for event in session.events] == [
                ("WARNING", False),
                ("PRINTING", True),
                ("DONE", True),
            ]
            assert session.events[0].info == "SUPPLY LOW"
        assert [[image.PixelData for image in sheet] for sheet in printer.sheets] == [[bytes(range(64))] * 2]
        assert printer.deleted == [session.sop_instance_uid]


def test_a_printer_that_makes_no_jobs_is_not_waited_for():
    with printing(job_ends=None) as (association, _), FilmSession(association) as session:
        session.film().print()
        assert session.wait(0.0)
        assert session.jobs == []


def test_a_job_that_does_not_end():
    with printing(job_ends=2) as (association, _), FilmSession(association) as session:
        session.film().print()
        assert not session.wait(0.2)


def test_a_job_that_fails():
    with printing(job_ends=4) as (association, _), FilmSession(association) as session:
        session.film().print()
        assert session.wait(WAIT)
        assert session.events[-1].status == "FAILURE"


def test_warnings_are_in_the_response_and_failures_are_raised():
    with printing(warning=0xB605) as (association, _), FilmSession(association) as session:
        film = session.film()
        with pytest.raises(IndexError, match="1 image boxes"):
            film.place(2, IMAGE)
        with pytest.raises(StatusError) as caught:
            session.print()  # this printer prints films alone
        assert caught.value.status == Status.SOP_CLASS_NOT_SUPPORTED
        film.delete()


def test_an_exception_in_the_middle_deletes_the_session():
    with printing() as (association, printer):
        session = FilmSession(association)
        with pytest.raises(RuntimeError), session:
            raise RuntimeError("no paper")
        assert printer.deleted == [session.sop_instance_uid]


def test_the_printer_says_how_it_is():
    with printing() as (association, _):
        assert printer_status(association) == PrinterStatus("NORMAL", "", "paper")


# ------------------------------------------------------------------------------ availability


@contextmanager
def hearing(hear) -> Iterator[dulcet.Association]:
    node = dulcet.Node("RIS")
    InstanceAvailability(node, hear)
    with node.threads() as serving, dulcet.associate(serving.address, contexts=AVAILABILITY_PROPOSALS) as association:
        yield association


def test_what_is_available_is_heard():
    heard = []
    with hearing(heard.extend) as association:
        assert notify_availability(association, INSTANCES, procedure_step=("1.2.3", "4.5.6")) == 2
    assert sorted(heard, key=str) == sorted(INSTANCES, key=str)


@pytest.mark.parametrize(("error", "status"), [(Refused(0x0213), 0x0213), (RuntimeError("no database"), 0x0110)])
def test_who_hears_may_refuse(error, status):
    def hear(instances):
        raise error

    with hearing(hear) as association, pytest.raises(StatusError) as caught:
        notify_availability(association, INSTANCES)
    assert caught.value.status == status


def test_a_notification_of_nothing_is_refused():
    with hearing(list) as association:
        assert association.n_create(SOP_CLASS, None, build_identifier({})).status == Status.MISSING_ATTRIBUTE
        (study,) = {instance.study_instance_uid for instance in INSTANCES[:1]}
        response = association.n_create(SOP_CLASS, None, build_identifier({"StudyInstanceUID": study}))
        assert response.status == Status.MISSING_ATTRIBUTE
