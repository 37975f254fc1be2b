"""The status of a response (PS3.7 Annex C; PS3.4 for each service): an answer, never an exception.

Rule: categories and meanings are read from tables of ranges; nobody compares codes by hand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from enum import Enum
from typing import Final

__all__ = ["SERVICES", "Status", "StatusCategory", "category_of", "received_status"]


class StatusCategory(Enum):
    """What a status says of the operation (PS3.7 section C.1)."""

    SUCCESS = "success"
    PENDING = "pending"
    WARNING = "warning"
    FAILURE = "failure"
    CANCEL = "cancel"


# PS3.7 sections C.1 to C.5: each holds up to the next.  A code outside of them all is a failure: it is no promise.
_CATEGORIES: Final = {
    0x0000: StatusCategory.SUCCESS,
    0x0001: StatusCategory.WARNING,
    0x0002: StatusCategory.FAILURE,
    0x0107: StatusCategory.WARNING,
    0x0108: StatusCategory.FAILURE,
    0x0116: StatusCategory.WARNING,
    0x0117: StatusCategory.FAILURE,
    0xB000: StatusCategory.WARNING,
    0xC000: StatusCategory.FAILURE,
    0xFE00: StatusCategory.CANCEL,
    0xFE01: StatusCategory.FAILURE,
    0xFF00: StatusCategory.PENDING,
    0xFF02: StatusCategory.FAILURE,
}
_FIRSTS: Final = tuple(_CATEGORIES)


def category_of(code: int) -> StatusCategory:
    """The category of a number from 0 to 65535; looked up with every answer."""
    return _CATEGORIES[_FIRSTS[bisect_right(_FIRSTS, code) - 1]]


class _Code:
    """A named status: `Status.PENDING` is `Status(0xFF00)`."""

    def __init__(self, code: int) -> None:
        self._code = code

    def __set_name__(self, owner: type[Status], name: str) -> None:
        self._status = owner(self._code)

    def __get__(self, status: object, owner: type[Status]) -> Status:
        return self._status


class Status(int):
    """A status code, 0..65535, that knows its category and meaning; ValueError for other numbers."""

    __slots__ = ()

    def __new__(cls, code: int) -> Status:
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"a status is 0 to 65535, not {code}")
        return super().__new__(cls, code)

    # PS3.7 Annex C, of every service
    SUCCESS = _Code(0x0000)
    OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = _Code(0x0001)
    NO_SUCH_ATTRIBUTE = _Code(0x0105)
    INVALID_ATTRIBUTE_VALUE = _Code(0x0106)
    ATTRIBUTE_LIST_ERROR = _Code(0x0107)
    PROCESSING_FAILURE = _Code(0x0110)
    DUPLICATE_INSTANCE = _Code(0x0111)
    NO_SUCH_INSTANCE = _Code(0x0112)
    NO_SUCH_EVENT_TYPE = _Code(0x0113)
    NO_SUCH_ARGUMENT = _Code(0x0114)
    INVALID_ARGUMENT_VALUE = _Code(0x0115)
    ATTRIBUTE_VALUE_OUT_OF_RANGE = _Code(0x0116)
    INVALID_INSTANCE = _Code(0x0117)
    NO_SUCH_SOP_CLASS = _Code(0x0118)
    CLASS_INSTANCE_CONFLICT = _Code(0x0119)
    MISSING_ATTRIBUTE = _Code(0x0120)
    MISSING_ATTRIBUTE_VALUE = _Code(0x0121)
    SOP_CLASS_NOT_SUPPORTED = _Code(0x0122)
    NO_SUCH_ACTION = _Code(0x0123)
    NOT_AUTHORIZED = _Code(0x0124)
    DUPLICATE_INVOCATION = _Code(0x0210)
    UNRECOGNIZED_OPERATION = _Code(0x0211)
    MISTYPED_ARGUMENT = _Code(0x0212)
    RESOURCE_LIMITATION = _Code(0x0213)
    CANCEL = _Code(0xFE00)
    PENDING = _Code(0xFF00)
    PENDING_WARNING = _Code(0xFF01)

    # PS3.4 Annex B, storage; Annex C, query and retrieve
    OUT_OF_RESOURCES = _Code(0xA700)
    CANNOT_COUNT_MATCHES = _Code(0xA701)
    CANNOT_PERFORM_SUBOPERATIONS = _Code(0xA702)
    MOVE_DESTINATION_UNKNOWN = _Code(0xA801)
    DATA_SET_MISMATCH = _Code(0xA900)
    CANNOT_UNDERSTAND = _Code(0xC000)
    COERCED = _Code(0xB000)
    SUBOPERATIONS_FAILED = _Code(0xB000)
    ELEMENTS_DISCARDED = _Code(0xB006)
    DATA_SET_MISMATCH_WARNING = _Code(0xB007)

    # PS3.4 Annex J: Failure Reason (0008,1197) of storage commitment speaks the same numbers
    DUPLICATE_TRANSACTION_UID = _Code(0x0131)

    # PS3.4 Annex CC, unified procedure step
    UPS_MODIFIED = _Code(0xB300)
    UPS_DELETION_LOCK_NOT_GRANTED = _Code(0xB301)
    UPS_ALREADY_CANCELED = _Code(0xB304)
    UPS_COERCED = _Code(0xB305)
    UPS_ALREADY_COMPLETED = _Code(0xB306)
    UPS_NO_LONGER_UPDATABLE = _Code(0xC300)
    UPS_WRONG_TRANSACTION_UID = _Code(0xC301)
    UPS_ALREADY_IN_PROGRESS = _Code(0xC302)
    UPS_SCHEDULED_BY_CREATE_ONLY = _Code(0xC303)
    UPS_FINAL_STATE_NOT_MET = _Code(0xC304)
    UPS_NO_SUCH_INSTANCE = _Code(0xC307)
    UPS_UNKNOWN_RECEIVER = _Code(0xC308)
    UPS_NOT_SCHEDULED = _Code(0xC309)
    UPS_NOT_IN_PROGRESS = _Code(0xC310)
    UPS_IS_COMPLETED = _Code(0xC311)
    UPS_PERFORMER_UNREACHABLE = _Code(0xC312)
    UPS_PERFORMER_DECLINES = _Code(0xC313)
    UPS_ACTION_NOT_APPROPRIATE = _Code(0xC314)
    UPS_EVENT_REPORTS_NOT_SUPPORTED = _Code(0xC315)

    # PS3.4 Annex H, print management
    PRINT_NO_MEMORY_ALLOCATION = _Code(0xB600)
    PRINT_NO_COLLATION = _Code(0xB601)
    PRINT_EMPTY_SESSION_PAGE = _Code(0xB602)
    PRINT_EMPTY_PAGE = _Code(0xB603)
    PRINT_DEMAGNIFIED = _Code(0xB604)
    PRINT_DENSITY_OUT_OF_RANGE = _Code(0xB605)
    PRINT_CROPPED = _Code(0xB609)
    PRINT_DECIMATED = _Code(0xB60A)
    PRINT_NO_FILM_BOX = _Code(0xC600)
    PRINT_SESSION_QUEUE_FULL = _Code(0xC601)
    PRINT_QUEUE_FULL = _Code(0xC602)
    PRINT_IMAGE_TOO_LARGE = _Code(0xC603)
    PRINT_OUT_OF_MEMORY = _Code(0xC605)
    PRINT_COMBINED_IMAGE_TOO_LARGE = _Code(0xC613)
    PRINT_FILM_BOX_NOT_PRINTED = _Code(0xC616)

    @property
    def category(self) -> StatusCategory:
        """Success, pending, warning, failure or cancel; a code that the standard does not know is a failure."""
        return category_of(self)

    @property
    def is_success(self) -> bool:
        """Done, with nothing to say."""
        return self.category is StatusCategory.SUCCESS

    @property
    def is_pending(self) -> bool:
        """More responses follow; FF01H is pending too."""
        return self.category is StatusCategory.PENDING

    @property
    def is_warning(self) -> bool:
        """Done, with something to say."""
        return self.category is StatusCategory.WARNING

    @property
    def is_failure(self) -> bool:
        """Not done."""
        return self.category is StatusCategory.FAILURE

    @property
    def is_cancel(self) -> bool:
        """Ended early, as was asked for by C-CANCEL-RQ."""
        return self.category is StatusCategory.CANCEL

    def meaning(self, service: str | None = None) -> str:
        """What the code says, by the table of `service` first (one of SERVICES, as "storage"), then by that of all.

        `Status(0xA700).meaning("storage")` is "refused: out of resources".  ValueError for a service that is not there.
        """
        if service is not None and service not in _MEANINGS:
            raise ValueError(f"there is no table of statuses for {service!r}; expected one of {', '.join(SERVICES)}")
        tables = (*_MEANINGS.get(service or "", ()), *_GENERAL)
        return next(meaning for first, last, meaning in tables if first <= self <= last)

    def __str__(self) -> str:
        return f"{int(self):04X}H {self.meaning()}"

    def __repr__(self) -> str:
        return f"Status({int(self):#06x})"


def _read_ranges(table: str) -> Iterator[tuple[int, int, str]]:
    """First code, last code and meaning of each line of a table as the standard prints it, x being any digit."""
    for line in table.strip().splitlines():
        code, meaning = line.split(maxsplit=1)
        yield int(code.replace("x", "0"), 16), int(code.replace("x", "F"), 16), meaning


# PS3.7 Annex C; from A7xx on what the services of PS3.4 have in common, then what is left.  The first line that fits.
_GENERAL: Final = tuple(
    _read_ranges("""
    0000  success
    0001  success, but optional attributes are not supported
    0105  no such attribute
    0106  invalid attribute value
    0107  attribute list error: some attributes were not recognized
    0110  processing failure
    0111  duplicate SOP instance
    0112  no such SOP instance
    0113  no such event type
    0114  no such argument
    0115  invalid argument value
    0116  attribute value out of range
    0117  invalid SOP instance
    0118  no such SOP class
    0119  class-instance conflict
    0120  missing attribute
    0121  missing attribute value
    0122  refused: SOP class not supported
    0123  no such action
    0124  refused: not authorized
    0131  duplicate transaction UID
    0210  duplicate invocation
    0211  unrecognized operation
    0212  mistyped argument
    0213  resource limitation
    FE00  canceled
    FF00  pending
    FF01  pending, but optional keys are not supported
    A700  out of resources
    A701  out of resources: the number of matches cannot be calculated
    A702  out of resources: sub-operations cannot be performed
    A7xx  out of resources
    A801  move destination unknown
    A9xx  data set or identifier does not match the SOP class
    B000  warning: elements coerced, or sub-operations failed
    B006  warning: elements discarded
    B007  warning: data set does not match the SOP class
    Axxx  refused
    Bxxx  warning
    C000  cannot understand or process
    Cxxx  cannot understand or process
    xxxx  unknown status, taken as failure
    """)
)

_MEANINGS: Final[dict[str, tuple[tuple[int, int, str], ...]]] = {
    service: tuple(_read_ranges(table))
    for service, table in {
        # PS3.4 Table B.2-1
        "storage": """
    A7xx  refused: out of resources
    A9xx  data set does not match the SOP class
    Cxxx  cannot understand
    B000  coercion of data elements
    B006  elements discarded
    B007  data set does not match the SOP class (warning)
    """,
        # PS3.4 Tables C.4-1 and K.4-1
        "find": """
    A700  refused: out of resources
    A710  invalid prior record key
    A900  identifier does not match the SOP class
    Cxxx  unable to process
    B001  matching reached the response limit; a further request may return more
    FE00  matching ended by a cancel request
    FF00  a match; matching goes on
    FF01  a match, but some optional keys were not supported; matching goes on
    """,
        # PS3.4 Tables C.4-2 and Y.4-1
        "move": """
    A701  refused: out of resources, the number of matches cannot be calculated
    A702  refused: out of resources, sub-operations cannot be performed
    A801  refused: move destination unknown
    A900  identifier does not match the SOP class
    AA00  none of the frames requested were found in the SOP instance
    AA01  unable to create a new object for this SOP class
    AA02  unable to extract frames
    AA03  time-based request for a SOP instance that is not time-based
    AA04  invalid request
    Cxxx  unable to process
    B000  sub-operations complete, one or more failures or warnings
    FE00  sub-operations ended by a cancel request
    FF00  sub-operations go on
    """,
        # PS3.4 Tables C.4-3 and Y.4-2
        "get": """
    A701  refused: out of resources, the number of matches cannot be calculated
    A702  refused: out of resources, sub-operations cannot be performed
    A900  identifier does not match the SOP class
    AA00  none of the frames requested were found in the SOP instance
    AA01  unable to create a new object for this SOP class
    AA02  unable to extract frames
    AA03  time-based request for a SOP instance that is not time-based
    AA04  invalid request
    Cxxx  unable to process
    B000  sub-operations complete, one or more failures or warnings
    FE00  sub-operations ended by a cancel request
    FF00  sub-operations go on
    """,
        # PS3.4 section F.7.2.2 and F.8.2.2
        "mpps": """
    0001  requested optional attributes are not supported
    0110  the performed procedure step may no longer be updated
    """,
        # PS3.4 Annex J, with the Failure Reasons of PS3.3 section C.14.1.1
        "commitment": """
    0110  processing failure
    0112  no such object instance: it is not with the provider
    0119  class-instance conflict: the instance is of another SOP class
    0122  referenced SOP class not supported
    0131  duplicate transaction UID
    0213  resource limitation: no space to store the instances
    """,
        # PS3.4 sections H.4.1.2, H.4.2.2 and H.4.3
        "print": """
    0107  some optional attributes are not supported
    0116  attribute value out of range, a default is used
    B600  memory allocation not supported
    B601  film session printing (collation) is not supported
    B602  the film session has no image boxes (empty page)
    B603  the film box has no image boxes (empty page)
    B604  the image is larger than the image box and was demagnified
    B605  the density asked for is outside of the printer's range; its own limits are used
    B609  the image is larger than the image box and was cropped
    B60A  the image or combined print image is larger than the image box and was decimated
    C600  the film session has no film boxes
    C601  no print job could be made of the film session: the print queue is full
    C602  no print job could be made of the film box: the print queue is full
    C603  the image is larger than the image box
    C605  the printer has not enough memory for the image
    C613  the combined print image is larger than the image box
    C616  a film box is not printed yet, and the session cannot be printed as a whole
    """,
        # PS3.4 sections CC.2.1 to CC.2.8
        "ups": """
    0001  requested optional attributes are not supported
    A700  refused: out of resources
    A900  identifier does not match the SOP class
    B300  the UPS was created with modifications
    B301  deletion lock not granted
    B304  the UPS is already in the requested state of CANCELED
    B305  invalid values were coerced to valid ones
    B306  the UPS is already in the requested state of COMPLETED
    C300  the UPS may no longer be updated
    C301  the correct transaction UID was not provided
    C302  the UPS is already IN PROGRESS
    C303  the UPS becomes SCHEDULED by N-CREATE alone, not by N-SET or N-ACTION
    C304  the UPS has not met the final state requirements for this change
    C307  no such UPS instance is managed here
    C308  the receiving AE title is unknown here
    C309  the UPS state given was not SCHEDULED
    C310  the UPS is not yet IN PROGRESS
    C311  the UPS is already COMPLETED
    C312  the performer cannot be contacted
    C313  the performer chooses not to cancel
    C314  the action is not appropriate for this instance
    C315  event reports are not supported
    Cxxx  unable to process
    FE00  matching ended by a cancel request
    FF00  a match; matching goes on
    FF01  a match, but some optional keys were not supported; matching goes on
    """,
    }.items()
}

SERVICES: Final = tuple(_MEANINGS)


def received_status(value: int | None) -> Status:
    """That of a response: one without a Status (0000,0900) failed, 0110H."""
    return Status(Status.PROCESSING_FAILURE if value is None else value)
