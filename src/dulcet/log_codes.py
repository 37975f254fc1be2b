"""What dulcet logs above DEBUG: a stable code for each kind of line, with its level, its cause and what to do.

Rule: a code is never given to another meaning; one that is no longer logged is deleted and not used again.  A record
carries its code as `record.code`; `dulcet.trace_events` logs what happens, not what is wrong, and has none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CODES", "LogCode", "coded"]


class LogCode(NamedTuple):
    """One kind of line."""

    level: str
    cause: str
    cure: str


NOTHING: Final = "nothing to do"

CODES: Final[dict[str, LogCode]] = {
    # 1xx: connections and associations
    "DUL101": LogCode(
        "WARNING",
        "a connection was aborted by us before or while it was an association: the peer broke the protocol",
        "the line says what came; look at it with `dulcet trace`, ask what that peer is",
    ),
    "DUL102": LogCode(
        "WARNING",
        "a connection stood, but its A-ASSOCIATE-RQ or its TLS handshake was not whole in time",
        "often a port scan or a probe; for slow lines raise `Timers.artim` or `Timers.tls`",
    ),
    "DUL103": LogCode(
        "WARNING",
        "the peer closed the connection before it was answered",
        "look at its log; it may wait for less than we need to decide",
    ),
    "DUL104": LogCode(
        "WARNING",
        "as many associations as allowed stand: in all, of this host, or of this AE title",
        "the peer may come again; raise `maximum_associations`, `maximum_per_host` or `maximum_per_ae`",
    ),
    "DUL105": LogCode(
        "WARNING",
        "the peer's certificate does not allow its AE title",
        "add the title to the certificate's line of the table, or have the peer call with its own",
    ),
    "DUL106": LogCode(
        "WARNING",
        "the policy refused an association; the numbers are result, source and reason",
        "if it should come in: add its AE title, or have it call the right one",
    ),
    "DUL107": LogCode(
        "WARNING",
        "the peer numbers its presentation contexts in a way the standard forbids; it was taken all the same",
        "tell its vendor; `strict=True` aborts instead",
    ),
    "DUL108": LogCode(
        "WARNING",
        "the peer sent PDUs longer than we announced; they were taken all the same",
        "tell its vendor; `strict=True` aborts instead",
    ),
    "DUL109": LogCode(
        "WARNING",
        "the peer asked for another protocol version or application context",
        "ask what that peer is: it does not speak DICOM as we know it",
    ),
    "DUL110": LogCode(
        "ERROR",
        "the process has as many open files as it may have: no connection can be taken",
        "raise the limit (`ulimit -n`, `LimitNOFILE=`), or lower `maximum_associations`",
    ),
    "DUL111": LogCode(
        "WARNING",
        "nobody decided about an association in time",
        "make the admission hook or verifier answer sooner; see what it waits for",
    ),
    "DUL112": LogCode(
        "ERROR",
        "the program's admission hook gave what the standard forbids; the peer was refused",
        "mend the admission hook as the line says",
    ),
    "DUL113": LogCode(
        "ERROR",
        "the program's admission hook or verifier of associations raised an exception; the peer was told to come again",
        "mend it at the file and line given",
    ),
    "DUL114": LogCode(
        "ERROR",
        "an association was to be accepted in a way the standard forbids; the peer was told to come again",
        "mend what decides as the line says",
    ),
    "DUL115": LogCode(
        "WARNING",
        "an association did not end by a release: aborted, cut off, or silent for too long",
        "the line says which; what was not acknowledged is sent again by a good sender",
    ),
    "DUL116": LogCode("INFO", "an association is over, with the number of its requests and its time", NOTHING),
    "DUL117": LogCode(
        "ERROR",
        "no thread could be started for an association",
        "raise the limit of threads or memory, lower `maximum_associations`, or serve with asyncio",
    ),
    "DUL118": LogCode("INFO", "the server was told to stop and waits for the associations that stand", NOTHING),
    "DUL119": LogCode(
        "WARNING",
        "the program left an association while operations were unanswered, so it was aborted and not released",
        "wait for the answers, or cancel, before the `with` block ends",
    ),
    "DUL120": LogCode("INFO", "as DUL115, where the program is told by `on_association_end`", "as for DUL115"),
    "DUL121": LogCode(
        "ERROR",
        "a worker process died, its associations with it; what it had not acknowledged its senders send again",
        "look above for why: out of memory and a kill are the usual causes; it was replaced",
    ),
    "DUL122": LogCode("INFO", "a worker process that was replaced serves", NOTHING),
    "DUL123": LogCode(
        "WARNING",
        "the parent of the worker processes is gone, so they finish what stands and end",
        "start it again; the line before may say why it ended",
    ),
    "DUL124": LogCode(
        "WARNING",
        "the peer ended the association in another way than by answering A-RELEASE-RQ; what it answered before holds",
        "nothing, or tell the peer's maker: PS3.8 wants an A-RELEASE-RP",
    ),
    # 15x: TLS
    "DUL151": LogCode(
        "WARNING",
        "a TLS handshake failed",
        "[the table of TLS troubles](../howto/tls.md#when-it-does-not-work)",
    ),
    "DUL152": LogCode(
        "WARNING",
        "TLS without verification was asked for: the line is secret, but nobody knows who is at its end",
        "name a CA (`ca_file`, `--tls-ca`) instead of `insecure`",
    ),
    "DUL153": LogCode(
        "ERROR",
        "certificate files were changed and cannot be used; the ones before go on",
        "mend the file that the line names; it is read again by itself",
    ),
    "DUL154": LogCode("INFO", "certificate files were changed and are in use", NOTHING),
    # 2xx: requests of peers, and the handlers that answer them
    "DUL201": LogCode(
        "WARNING",
        "a request came that no handler provides; it was refused with 0122H or 0211H",
        "provide a handler for it, or do not accept its SOP class",
    ),
    "DUL202": LogCode(
        "ERROR",
        "what came could not be kept; the sender was told the status in the line",
        "A700H: free the disk; A900H: the sender contradicts itself; C000H: the data are damaged",
    ),
    "DUL203": LogCode(
        "ERROR",
        "a handler or callback of the program raised an exception; the peer was told of a failure",
        "mend it; the traceback follows",
    ),
    "DUL204": LogCode(
        "WARNING",
        "the peer answered what nobody asked; the answer was thrown away",
        "tell its vendor; `dulcet trace` shows the message",
    ),
    "DUL205": LogCode(
        "WARNING",
        "a request could not be answered any more: the association was over, or was ended for it",
        "see what ended it in the lines before",
    ),
    "DUL206": LogCode(
        "ERROR",
        "what a handler gave cannot be written as an answer; the peer was told of a failure",
        "mend the values as the line says",
    ),
    "DUL207": LogCode(
        "ERROR",
        "a handler returned, yielded or raised what answers nothing; the peer was told of a failure",
        "return what [the table of results](../howto/from-pynetdicom.md) allows",
    ),
    "DUL208": LogCode("WARNING", "a handler refused a request, with the status in the line", "as the status says"),
    "DUL209": LogCode(
        "ERROR",
        "what a handler wanted done after its answer raised an exception; the answer itself was sent",
        "mend it; the traceback follows",
    ),
    "DUL210": LogCode(
        "ERROR",
        "the data set of a request does not decode; it was refused",
        "tell the peer's vendor; `dulcet trace` shows the message",
    ),
    "DUL211": LogCode(
        "WARNING",
        "a C-MOVE names a destination that is no known peer; it was answered with A801H",
        "add the destination with its host and port to the node's peers",
    ),
    "DUL212": LogCode(
        "WARNING",
        "the rest of a C-GET or C-MOVE could not be sent; the peer was told how many failed",
        "the line says why: often the destination cannot be reached, or it aborts",
    ),
    "DUL213": LogCode(
        "WARNING",
        "one instance of a C-GET or C-MOVE was not taken; the others go on",
        "the line says why: the file, its transfer syntax, or the status of the destination",
    ),
    "DUL214": LogCode("ERROR", "closing the iterator of a handler raised an exception", "mend its `finally`"),
    "DUL215": LogCode(
        "WARNING",
        "a request was refused before any handler saw it: 0210H its message ID is in use, 0213H its data set is longer "
        "than `Limits.identifier`, C000H a C-STORE without a data set, 0117H one without a SOP Instance UID",
        "tell the peer's vendor; for 0213H raise the limit",
    ),
    "DUL216": LogCode(
        "WARNING",
        "the peer answers on another presentation context of the class than it was asked on; its answers are taken",
        "tell its vendor; propose one context for each class to such a peer",
    ),
    "DUL218": LogCode(
        "WARNING",
        "a peer sends the instances of our C-MOVE without Move Originator AE Title and Message ID; they are taken, for "
        "its AE title or host is that of the provider",
        "nothing, or tell the peer's maker (PS3.7 section 9.1.1.1)",
    ),
    "DUL219": LogCode(
        "WARNING",
        "an instance was created whose UID the peer left to us, and the handler gave none: the peer cannot name it",
        "return `Answer(AffectedSOPInstanceUID=…)` from the handler of N-CREATE",
    ),
    "DUL231": LogCode(
        "WARNING",
        "a match of a C-FIND is no data set, or nests deeper than any real one; the others are given",
        "the find ends with ReceiveError; tell the peer's vendor, `dulcet trace --datasets` shows what came",
    ),
    # 3xx: what we began at a peer and could not end
    "DUL301": LogCode(
        "WARNING",
        "a performed procedure step could not be set to DISCONTINUED when its `with` block failed",
        "set it by hand at the provider",
    ),
    "DUL302": LogCode(
        "WARNING",
        "a unified procedure step could not be set to CANCELED when its `with` block failed",
        "set it by hand at the provider",
    ),
    "DUL303": LogCode(
        "WARNING", "a film session could not be deleted at the printer", "the association's end deletes it as well"
    ),
    # 4xx: folders and the archive
    "DUL401": LogCode(
        "WARNING", "partial files of a run that was killed were removed", "none of them was acknowledged"
    ),
    "DUL402": LogCode(
        "WARNING",
        "an instance came again with other content under the same UID; both are kept",
        "ask the sender which one is right; UIDs have to be unique",
    ),
    "DUL403": LogCode(
        "WARNING",
        "the file of an indexed instance was missing, and came again",
        "find out who removes files below the data folder",
    ),
    "DUL404": LogCode(
        "ERROR",
        "the disk failed in a commit: its outcome is not known, so the object stays and the sender was told A700H",
        "check the disk; the next start of the archive settles it",
    ),
    "DUL405": LogCode(
        "ERROR",
        "an instance cannot be indexed; the sender was told A700H and nothing was kept",
        "the traceback follows: free the disk, or report it",
    ),
    "DUL406": LogCode("WARNING", "there was no index; one was made of the objects in the folder", NOTHING),
    "DUL407": LogCode("WARNING", "what a run that was killed left half done was put in order", NOTHING),
    "DUL408": LogCode(
        "ERROR",
        "a file in the archive's folder does not read as an object, or is damaged; the line says where",
        "compare it with a copy; check the disk; remove what is not the archive's",
    ),
    "DUL409": LogCode("ERROR", "events wait, for the index cannot be read or written", "free or mend the disk"),
    "DUL410": LogCode(
        "WARNING",
        "a hook or the program's listener to events failed; the line says how, and it is told again later",
        "mend the hook or listener; events are told until it takes them",
    ),
    "DUL411": LogCode("INFO", "the archive was queried", NOTHING),
    "DUL412": LogCode("INFO", "the archive sends instances for a C-GET or C-MOVE", NOTHING),
    "DUL413": LogCode(
        "WARNING",
        "a study came with UIDs that the standard does not allow; it was taken, and is found and sent, as it is",
        "tell the maker of the device; `strict = true` in [storage] refuses them",
    ),
    "DUL414": LogCode(
        "ERROR",
        "an object of no patient, such as a hanging protocol, could not be read for a query; the others were answered",
        "look at it with `dulcet index check`; have it sent again",
    ),
    # 5xx: reports and storage commitment
    "DUL501": LogCode(
        "INFO", "the result of a commitment cannot go on the association that asked, and goes on another", NOTHING
    ),
    "DUL502": LogCode(
        "ERROR",
        "the result of a commitment could not be delivered",
        "the requestor has to be a peer with host and port, and to listen",
    ),
    "DUL503": LogCode(
        "WARNING", "the requestor of a commitment answered its result with a failure", "look at its log"
    ),
    "DUL504": LogCode("ERROR", "an event report cannot be encoded and is dropped", "mend the values it was given"),
    "DUL505": LogCode("ERROR", "making an event report raised an exception", "the traceback follows"),
    "DUL506": LogCode(
        "WARNING",
        "an event report was not delivered; it is tried again",
        "the line says why; the receiver has to be reachable and to accept the SOP class",
    ),
    "DUL507": LogCode(
        "ERROR",
        "what the program wanted done after a report raised an exception",
        "mend it; the traceback follows",
    ),
    "DUL508": LogCode(
        "ERROR",
        "too many reports wait for one receiver: the oldest is dropped",
        "make the receiver reachable, or unsubscribe it",
    ),
    "DUL509": LogCode(
        "ERROR",
        "whether an instance is safe could not be found out; it is reported as failed",
        "mend the function that is asked; the traceback follows",
    ),
    "DUL510": LogCode(
        "ERROR",
        "the function that says whether an instance is safe gave no Failure Reason; 0110H is reported",
        "return None or one of the statuses of storage commitment",
    ),
    "DUL511": LogCode(
        "ERROR",
        "the process that reports results of storage commitment for all workers could not read them",
        "the traceback says why; free or mend the disk, it is tried again each second",
    ),
    # 9xx: what should not happen
    "DUL901": LogCode(
        "ERROR",
        "an exception that nobody foresaw; the association was ended, the others go on",
        "report it with the traceback that follows",
    ),
    "DUL902": LogCode(
        "ERROR",
        "an observer of the program raised an exception; it is told on, and logged once",
        "mend the observer; the traceback follows",
    ),
}


def coded(code: str) -> dict[str, str]:
    """The `extra` of a log call: `log.warning("...", extra=coded("DUL101"))`."""
    return {"code": code}
