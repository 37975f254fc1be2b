"""The command dictionary (PS3.7 Annex E), as the standard prints it.  Rule: a table and nothing else."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["COMMAND_ELEMENTS", "COMMAND_TAGS", "CommandElement"]


class CommandElement(NamedTuple):
    """One row of PS3.7 Tables E.1-1 and E.2-1: keyword, value representation, value multiplicity."""

    keyword: str
    vr: str
    vm: str
    retired: bool = False


RETIRED: Final = True

COMMAND_ELEMENTS: Final[dict[int, CommandElement]] = {
    # PS3.7 Table E.1-1
    0x0000_0000: CommandElement("CommandGroupLength", "UL", "1"),
    0x0000_0002: CommandElement("AffectedSOPClassUID", "UI", "1"),
    0x0000_0003: CommandElement("RequestedSOPClassUID", "UI", "1"),
    0x0000_0100: CommandElement("CommandField", "US", "1"),
    0x0000_0110: CommandElement("MessageID", "US", "1"),
    0x0000_0120: CommandElement("MessageIDBeingRespondedTo", "US", "1"),
    0x0000_0600: CommandElement("MoveDestination", "AE", "1"),
    0x0000_0700: CommandElement("Priority", "US", "1"),
    0x0000_0800: CommandElement("CommandDataSetType", "US", "1"),
    0x0000_0900: CommandElement("Status", "US", "1"),
    0x0000_0901: CommandElement("OffendingElement", "AT", "1-n"),
    0x0000_0902: CommandElement("ErrorComment", "LO", "1"),
    0x0000_0903: CommandElement("ErrorID", "US", "1"),
    0x0000_1000: CommandElement("AffectedSOPInstanceUID", "UI", "1"),
    0x0000_1001: CommandElement("RequestedSOPInstanceUID", "UI", "1"),
    0x0000_1002: CommandElement("EventTypeID", "US", "1"),
    0x0000_1005: CommandElement("AttributeIdentifierList", "AT", "1-n"),
    0x0000_1008: CommandElement("ActionTypeID", "US", "1"),
    0x0000_1020: CommandElement("NumberOfRemainingSuboperations", "US", "1"),
    0x0000_1021: CommandElement("NumberOfCompletedSuboperations", "US", "1"),
    0x0000_1022: CommandElement("NumberOfFailedSuboperations", "US", "1"),
    0x0000_1023: CommandElement("NumberOfWarningSuboperations", "US", "1"),
    0x0000_1030: CommandElement("MoveOriginatorApplicationEntityTitle", "AE", "1"),
    0x0000_1031: CommandElement("MoveOriginatorMessageID", "US", "1"),
    # PS3.7 Table E.2-1: retired, never sent; kept as bytes when a peer sends them
    0x0000_0001: CommandElement("CommandLengthToEnd", "UL", "1", RETIRED),
    0x0000_0010: CommandElement("CommandRecognitionCode", "SH", "1", RETIRED),
    0x0000_0200: CommandElement("Initiator", "AE", "1", RETIRED),
    0x0000_0300: CommandElement("Receiver", "AE", "1", RETIRED),
    0x0000_0400: CommandElement("FindLocation", "AE", "1", RETIRED),
    0x0000_0850: CommandElement("NumberOfMatches", "US", "1", RETIRED),
    0x0000_0860: CommandElement("ResponseSequenceNumber", "US", "1", RETIRED),
    0x0000_4000: CommandElement("DialogReceiver", "LT", "1", RETIRED),
    0x0000_4010: CommandElement("TerminalType", "LT", "1", RETIRED),
    0x0000_5010: CommandElement("MessageSetID", "SH", "1", RETIRED),
    0x0000_5020: CommandElement("EndMessageID", "SH", "1", RETIRED),
    0x0000_5110: CommandElement("DisplayFormat", "LT", "1", RETIRED),
    0x0000_5120: CommandElement("PagePositionID", "LT", "1", RETIRED),
    0x0000_5130: CommandElement("TextFormatID", "CS", "1", RETIRED),
    0x0000_5140: CommandElement("NormalReverse", "CS", "1", RETIRED),
    0x0000_5150: CommandElement("AddGrayScale", "CS", "1", RETIRED),
    0x0000_5160: CommandElement("Borders", "CS", "1", RETIRED),
    0x0000_5170: CommandElement("Copies", "IS", "1", RETIRED),
    0x0000_5180: CommandElement("CommandMagnificationType", "CS", "1", RETIRED),
    0x0000_5190: CommandElement("Erase", "CS", "1", RETIRED),
    0x0000_51A0: CommandElement("Print", "CS", "1", RETIRED),
    0x0000_51B0: CommandElement("Overlays", "US", "1-n", RETIRED),
}

COMMAND_TAGS: Final[dict[str, int]] = {element.keyword: tag for tag, element in COMMAND_ELEMENTS.items()}
