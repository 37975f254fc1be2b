"""Four parties move images (PS3.4 C.4.2, C.4.3): A asks B to move to D, B gets them from C and stores them to D.

Each party numbers its own messages, an answer names the number of whoever asked.  The C-STOREs to D carry A's title and
the number of A's C-MOVE; those from C to B come on the association of B's C-GET, in the roles that were negotiated.
"""

import threading

from pydicom import Dataset

from dulcet import Status, uids
from dulcet.toolkit import Associate, Net, Priority, shutdown, startup

CT, EXPLICIT = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN
MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
STEPS = []  # (from, to, message, its number)


def asking(called, calling, *classes):
    """What a user asks for: context 1 for the first class, 3 for the second."""
    request = Associate.default()
    request.delete_presentation(1)
    request.called, request.calling = called, calling
    for index, uid in enumerate(classes):
        request.add_presentation(2 * index + 1, 0, uid, [EXPLICIT])
    return request


def image(number):
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.PatientID = CT, f"1.2.826.0.1.{number}", "P1"
    return made


class Provider(Net):
    """Takes every association, in the roles that are asked for."""

    def on_receive_associate_request(self, associate):
        self.send_associate_accept(Associate.accepting(associate))


class SourceC(Provider):
    """Has some images and gives them on the association that asks."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def on_receive_c_get_request(self, presentation_id, message_id, class_uid, priority, data_set):
        self.asked = message_id
        self.images = [image(number + 1) for number in range(self.count)]
        self.completed = self.failed = 0
        self.cancelled = False
        self.next_image()

    def next_image(self):
        if self.images and not self.cancelled:
            one = self.images.pop(0)
            number = self.send_c_store_request(
                3, 200 + self.count - len(self.images), CT, one.SOPInstanceUID, data_set=one
            )
            STEPS.append(("C", "B", "C-STORE-RQ", number))
        else:
            status = Status.CANCEL if self.cancelled else 0xB000 if self.failed else 0
            remaining = len(self.images) if self.cancelled else None
            self.send_c_get_response(1, self.asked, GET, status, remaining, self.completed, self.failed, 0)

    def on_receive_c_store_response(self, presentation_id, message_id, class_uid, instance_uid, status):
        self.completed += status.is_success
        self.failed += status.is_failure
        if self.images:
            counters = len(self.images), self.completed, self.failed, 0
            self.send_c_get_response(1, self.asked, GET, Status.PENDING, *counters)
        self.next_image()

    def on_receive_c_cancel_request(self, presentation_id, message_id):
        self.cancelled = True  # between two sub-operations


class DestinationD(Provider):
    """Keeps what it gets, but for the instances it refuses."""

    def __init__(self, refused=()):
        super().__init__()
        self.refused = refused

    def on_receive_c_store_request(self, presentation_id, message_id, class_uid, instance_uid, *rest):
        _, title, number, _ = rest
        STEPS.append(("B", "D", f"C-STORE-RQ for {title} {number}", message_id))
        status = Status.OUT_OF_RESOURCES if instance_uid in self.refused else Status.SUCCESS
        self.send_c_store_response(presentation_id, message_id, class_uid, instance_uid, status)


class BrokerB(Provider):
    """Moves on request, to peers that it knows; this is its side towards A."""

    def __init__(self, source, peers):
        super().__init__()
        self.source, self.peers = source, peers
        self.to_c, self.to_d = BrokerToC(self), BrokerToD(self)

    def on_receive_c_move_request(self, presentation_id, message_id, class_uid, priority, move_destination, *rest):
        self.asked, self.counters, self.failed_uids = message_id, {0: 0, 1: 0}, []
        if move_destination not in self.peers:
            self.send_c_move_response(1, message_id, MOVE, Status.MOVE_DESTINATION_UNKNOWN)
            return
        self.to_d.connect("127.0.0.1", self.peers[move_destination])

    def on_receive_c_cancel_request(self, presentation_id, message_id):
        self.to_c.send_c_cancel_request(1, self.to_c.asked)

    def done(self, status, remaining):
        """C has given all; the last response has no count of remaining, unless it was cancelled."""
        failed = None
        if self.failed_uids:
            failed = Dataset()
            failed.FailedSOPInstanceUIDList = self.failed_uids
        self.send_c_move_response(1, self.asked, MOVE, status, remaining, *self.counters.values(), 0, data_set=failed)
        self.to_c.send_release_request()
        self.to_d.send_release_request()


class BrokerToD(Net):
    def __init__(self, broker):
        super().__init__()
        self.broker, self.answers = broker, {}

    def on_connect(self, error):
        self.send_associate_request(asking("D", "B", CT))

    def on_receive_associate_accept(self, associate):
        self.broker.to_c.connect("127.0.0.1", self.broker.source)

    def pass_on(self, asked_by_c, instance_uid, data_set):
        title = self.broker.associate.request.calling
        number = 901 + len(self.answers)
        self.answers[number] = asked_by_c
        self.send_c_store_request(1, number, CT, instance_uid, 0, title, self.broker.asked, data_set)

    def on_receive_c_store_response(self, presentation_id, message_id, class_uid, instance_uid, status):
        self.broker.counters[int(status.is_failure)] += 1
        if status.is_failure:
            self.broker.failed_uids.append(instance_uid)
        self.broker.to_c.send_c_store_response(3, self.answers[message_id], class_uid, instance_uid, status)


class BrokerToC(Net):
    def __init__(self, broker):
        super().__init__()
        self.broker = broker

    def on_connect(self, error):
        request = asking("C", "B", GET, CT)
        request.set_role(3, True, True)  # of each storage class: what we get, we are provider for
        self.send_associate_request(request)

    def on_receive_associate_accept(self, associate):
        self.asked = self.send_c_get_request(1, 500, GET, data_set=image(0))
        STEPS.append(("B", "C", "C-GET-RQ", self.asked))

    def on_receive_c_store_request(self, presentation_id, message_id, class_uid, instance_uid, *rest):
        self.broker.to_d.pass_on(message_id, instance_uid, rest[-1])

    def on_receive_c_get_response(self, presentation_id, message_id, class_uid, status, remaining, *rest):
        if not status.is_pending:
            self.broker.done(status, remaining)
        else:
            counters = remaining, *self.broker.counters.values(), 0
            self.broker.send_c_move_response(1, self.broker.asked, MOVE, status, *counters)


class AskerA(Net):
    def __init__(self, destination, cancel_after=None):
        super().__init__()
        self.destination, self.cancel_after = destination, cancel_after
        self.responses, self.finished = [], threading.Event()

    def on_connect(self, error):
        self.send_associate_request(asking("B", "A", MOVE))

    def on_receive_associate_accept(self, associate):
        number = self.send_c_move_request(1, 70, MOVE, Priority.MEDIUM, self.destination, image(0))
        STEPS.append(("A", "B", "C-MOVE-RQ", number))

    def on_receive_c_move_response(self, presentation_id, message_id, class_uid, status, *rest):
        *counters, data_set = rest
        failed = data_set.dataset().FailedSOPInstanceUIDList if data_set else None
        self.responses.append((message_id, status, *counters, failed))
        if len(self.responses) == self.cancel_after:
            self.send_c_cancel_request(1, message_id)
        if not status.is_pending:
            self.send_release_request()

    def on_receive_release_response(self):
        self.finished.set()


def run(destination="D", refused=(), cancel_after=None, count=3):
    """One move from beginning to end; the responses that A got."""
    STEPS.clear()
    startup()
    try:
        c, d, b = Net(), Net(), Net()
        c.on_accept = lambda error: c.accept(SourceC(count))
        d.on_accept = lambda error: d.accept(DestinationD(refused))
        peers = {"D": d.listen()}
        source = c.listen()
        b.on_accept = lambda error: b.accept(BrokerB(source, peers))
        a = AskerA(destination, cancel_after)
        a.connect("127.0.0.1", b.listen())
        assert a.finished.wait(30), "the move did not end within 30 seconds"
        return a.responses
    finally:
        shutdown()


if __name__ == "__main__":
    responses = run()
    for sender, receiver, message, number in STEPS:
        print(f"{sender} -> {receiver}  {message}, message {number}")
    for number, status, remaining, completed, failed, *_ in responses:
        print(f"B -> A  answers {number}: {status:04X}H, {remaining} to go, {completed} done, {failed} failed")
