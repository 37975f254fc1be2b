"""Write docs/conformance.md: a DICOM conformance statement in the structure of PS3.2, from the tables in the code.

`--check` writes nothing and says whether the page is up to date.
"""

# ruff: noqa: E501 - the lines are those of the page
from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import dulcet
from dulcet import uids
from dulcet._version import IMPLEMENTATION_CLASS_UID
from dulcet.archive.application import QUERY_OPTIONS, RETRIEVE_OPTIONS, Archive
from dulcet.archive.attributes import ATTRIBUTES, LEVELS
from dulcet.archive.configuration import Configuration
from dulcet.archive.identity import LONGEST
from dulcet.archive.of_no_patient import NAMES
from dulcet.config import AssociationConfig, Timers
from dulcet.io.tls import PROFILES
from dulcet.io.verdict import SENDABLE
from dulcet.part10.charset import CODECS, STAND_ALONE
from dulcet.services.acceptance import STORED_SYNTAXES, AcceptancePolicy
from dulcet.services.models import MODELS
from dulcet.services.proposals import DEFAULT_PROPOSALS, UNCOMPRESSED_PREFERENCE
from dulcet.services.sop_classes import SOP_CLASS_SERVICES, Service
from dulcet.upper_layer.negotiation import MAX_CONTEXTS

TARGET: Final = Path(__file__).parents[1] / "docs" / "conformance.md"

OWN_INTERFACE: Final[Mapping[Service, str]] = {
    Service.VERIFICATION: "`echo`, `on_echo`",
    Service.STORAGE: "`store`, `store_many`, `on_store`",
    Service.QUERY: "`find`, `on_find`",
    Service.RETRIEVE_MOVE: "`move`, `on_move`",
    Service.RETRIEVE_GET: "`get`, `on_get`",
    Service.WORKLIST: "`find`, `Worklist`",
    Service.MPPS: "`perform_procedure_step`, `MPPS`",
    Service.STORAGE_COMMITMENT: "`request_commitment`, `StorageCommitment`",
    Service.INSTANCE_AVAILABILITY: "user and provider of its own",
    Service.UPS_PUSH: "user and provider of its own",
    Service.UPS_PULL: "user and provider of its own",
    Service.UPS_WATCH: "user and provider of its own",
    Service.UPS_EVENT: "user and provider of its own",
    Service.UPS_QUERY: "user and provider of its own",
    Service.PRINT: "user of its own; provider by the N- handlers",
}
"""Services with names of their own; for the others the DIMSE operations and handlers are there."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(str(found).replace('|', chr(92) + '|') for found in row)} |" for row in rows), ""]


def classes(found: Iterable[str]) -> list[tuple[str, str]]:
    """Rows of SOP classes, by name."""
    return sorted((uids.name_of(uid), f"`{uid}`") for uid in found)


def syntaxes(found: Iterable[str]) -> list[tuple[str, str]]:
    """Rows of transfer syntaxes, in their order."""
    return [(uids.TRANSFER_SYNTAXES[uid], f"`{uid}`") for uid in found]


def page() -> Iterator[str]:
    """The statement."""
    yield from opening()
    yield from implementation_model()
    yield from calling()
    yield from listening()
    yield from archive()
    yield from network()
    yield from rest()


def opening() -> Iterator[str]:
    version = re.sub(r"[0-9]+$", "x", dulcet.__version__)
    yield from ("# DICOM conformance statement", "")
    yield from ("Made from the code by `tools/generate_conformance.py`, in the structure of PS3.2; do not edit.", "")
    yield f"""## 1 Overview

dulcet {version} is a library for DICOM networking with commands built on it. It acts as three application entities:

- **DULCET**, whatever calls: the commands `echo`, `store`, `find`, `get`, `move`, and programs that use the library;
- **RECEIVER**, `dulcet listen`: storage into a folder;
- **ARCHIVE**, `dulcet serve`: storage, query, retrieval and storage commitment.

It is no medical device and was not tested as one. A program that uses the library makes its own statement; section 4.2.4
lists what it can choose from.
"""
    yield from table(
        ("network service", "as user (SCU)", "as provider (SCP)"),
        (
            ("Verification", "DULCET", "RECEIVER, ARCHIVE"),
            ("Storage", "DULCET; ARCHIVE for C-GET and C-MOVE", "RECEIVER, ARCHIVE; DULCET for C-GET and C-MOVE"),
            ("Query/Retrieve, patient root, study root, patient/study only", "DULCET", "ARCHIVE"),
            ("Modality Worklist", "DULCET", "library"),
            ("Storage Commitment, push", "library", "ARCHIVE"),
            ("MPPS, Instance Availability, Unified Procedure Step, Print", "library", "library"),
        ),
    )
    yield from (
        "Media: `dulcet export` writes a file-set with a DICOMDIR (PS3.10 section 8), of no application profile.",
        "",
    )
    yield from ("## 2 Table of contents", "")
    yield from (
        "1 Overview, 3 Introduction, 4 Networking (4.1 implementation model, 4.2 AE specifications, 4.3 network interfaces,",
        "4.4 configuration), 5 Media interchange, 6 Character sets, 7 Security, 8 Annexes.",
        "",
        "## 3 Introduction",
        "",
    )
    yield from (
        "For those who connect systems. Words are those of PS3.2, PS3.4, PS3.7 and PS3.8 (AE, SCU, SCP, PDU, UID).",
        "",
    )


def implementation_model() -> Iterator[str]:
    yield """## 4 Networking

### 4.1 Implementation model

#### 4.1.1 Application data flow

DULCET makes an association when a command or program asks for it. RECEIVER and ARCHIVE wait for associations. ARCHIVE
makes associations by itself for the sub-operations of C-MOVE and for results of storage commitment, to the addresses of
its configuration.

#### 4.1.2 Functional definition

RECEIVER writes each data set, bit for bit, into a folder, and answers when it is on stable storage. ARCHIVE does so too,
indexes the header, and answers when the index is committed; it answers queries from the index, and sends objects as they
came, or converted between the uncompressed transfer syntaxes; with the extra `pixels` installed, compressed pixel data is
decompressed for peers that take it in no other way. Nothing is decoded on receipt, and nothing is compressed.

#### 4.1.3 Sequencing of real-world activities

None is required. Storage commitment reports on what was stored before.

### 4.2 AE specifications

What all of them have in common:

"""
    config, timers = AssociationConfig(), Timers()
    yield from table(
        ("policy", "value"),
        (
            ("application context", f"`{uids.APPLICATION_CONTEXT}`"),
            ("implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("implementation version name", "`DULCET_` and the version"),
            ("maximum length announced", f"{config.maximum_length} bytes; configurable, 0 (no limit) included"),
            ("maximum length sent", f"what the peer announces, at most {config.send_maximum} bytes"),
            ("presentation contexts proposed", f"at most {MAX_CONTEXTS} an association; further associations for more"),
            (
                "asynchronous operations",
                "proposed as 8 invoked for sending many objects; up to 8 performed, accepted for all",
            ),
            ("SOP class extended negotiation", "query/retrieve as below; others by the library"),
            ("role selection", "supported as requestor and acceptor"),
            ("user identity", "types 1 to 5 by the library; the commands name none and check none"),
            ("peers that do not identify their implementation", "accepted"),
        ),
    )
    yield from ("Timers, in seconds; all of them can be set.", "")
    names = (
        ("name resolution and TCP connect", timers.connect),
        ("TLS handshake", timers.tls),
        ("ARTIM (PS3.8 section 9.1.5)", timers.artim),
        ("answer to A-ASSOCIATE-RQ", timers.associate),
        ("answer to A-RELEASE-RQ", timers.release),
        ("response, from the last byte of the request, anew with each pending one", timers.response),
        ("idle, as acceptor", timers.idle),
        ("a data set that stands still", timers.progress),
    )
    yield from table(("timer", "default"), [(name, f"{value:g}") for name, value in names if value is not None])


def calling() -> Iterator[str]:
    yield from ("#### 4.2.1 DULCET", "")
    services = [
        uid for uid in (found.abstract_syntax for found in DEFAULT_PROPOSALS) if uid not in uids.STORAGE_CLASSES
    ]
    yield from ("SOP classes as user:", "", *table(("SOP class", "UID"), classes(services)))
    stored = [found.abstract_syntax for found in DEFAULT_PROPOSALS if found.provider]
    yield from (
        "**Association initiation.** One association for each command; `--jobs N` makes up to N for sending.",
        "",
    )
    yield from (
        "For sending, one presentation context is proposed for each SOP class of the files, any class, private ones included,",
        "in the transfer syntaxes that the files are in. A further",
        "association is for the files in another syntax than was accepted, and one with the uncompressed syntaxes below for",
        "those that can be converted, after a refusal. Otherwise the",
        f"classes above are proposed, and for C-GET {len(stored)} storage classes in the role of provider, all of them in:",
        "",
        *table(("transfer syntax", "UID"), syntaxes(UNCOMPRESSED_PREFERENCE)),
        "`get --syntax` and the library propose others.",
        "",
        "**Statuses.** Success and warnings of C-STORE count as sent; failures are reported by object with their code and",
        "meaning. A transient refusal is tried again by the pool of the library.",
        "",
        "**Association acceptance.** `move --receive` accepts storage for the time of the command, as RECEIVER does.",
        "",
    )


def listening() -> Iterator[str]:
    policy = AcceptancePolicy.storage("RECEIVER")
    yield from (
        "#### 4.2.2 RECEIVER",
        "",
        "**Association acceptance.** Calls to another AE title are rejected (1,1,7) unless",
    )
    yield from (
        "`--any-aet` is given; any calling AE title is taken. Of several transfer syntaxes in a context the first that the",
        f"requestor names and that is listed here is accepted. {len(policy.syntaxes)} SOP classes as provider, Verification and",
        "Storage; `--promiscuous` takes any:",
        "",
        *table(("SOP class", "UID"), classes(policy.syntaxes)),
        "in these transfer syntaxes, Verification in the uncompressed ones:",
        "",
        *table(("transfer syntax", "UID"), syntaxes(STORED_SYNTAXES)),
        "**Storage.** Level 2 (full): every attribute is kept, private ones too; nothing is coerced.",
        "",
    )
    yield from storage_statuses()
    yield from ("**Association initiation.** None.", "")


def storage_statuses() -> Iterator[str]:
    yield from table(
        ("status", "when"),
        (
            ("0000H", "the object is on stable storage, or it was there already, byte for byte"),
            ("A700H", "it cannot be written: disk full, quota, no permission"),
            ("A900H", "its SOP class or instance UID is not that of the request"),
            ("C000H", "the data set is not whole, does not read or lacks a UID; Error Comment and Offending Element say where"),
            ("0110H", "anything else went wrong here"),
            ("0122H", "nobody provides that SOP class"),
        ),
    )


def archive() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, Archive(folder, durable=False, allow_any=True) as opened:
        accepted = opened.node("ARCHIVE").policy().syntaxes
    services = [uid for uid in accepted if uid not in uids.STORAGE_CLASSES]
    limits = Configuration().limits
    yield from ("#### 4.2.3 ARCHIVE", "", "SOP classes as provider, besides the storage classes of RECEIVER:", "")
    yield from table(("SOP class", "UID"), classes(services))
    uncompressed = sorted({syntax for uid in services for syntax in accepted[uid]})
    yield from ("in", "", *table(("transfer syntax", "UID"), syntaxes(uncompressed)))
    yield from (
        "**Association acceptance.** AE titles of the configuration's `[peers.TITLE]` tables may call, each for the operations",
        "listed there (others get 0124H), all of them with `--allow-any`; others are rejected (1,1,3), calls to another AE title",
        f"(1,1,7). At most {limits.associations} associations at once, {limits.associations_per_address} from one address; more",
        "are rejected (2,3,2).",
        "",
        "**Storage.** As RECEIVER. Another data set under a known UID is kept beside the first, which goes on being served.",
        "A data set has to say its SOP Class, SOP Instance, Study Instance and Series Instance UID, else the answer is C000H",
        "with Error Comment and Offending Element. Study and Series Instance UIDs that PS3.5 section 9.1 does not allow, of up",
        f"to {LONGEST} characters, letters among them, are taken, found and sent as they are, and so are such SOP Instance",
        f"UIDs of up to {SENDABLE} characters; `--strict` refuses them. `--promiscuous` takes the storage classes that no",
        "table knows as well, in the same transfer syntaxes.",
        "",
        "**Objects of no patient** have neither study nor series, and information models of their own without levels, which",
        "C-FIND, C-MOVE and C-GET work on. Every attribute of the object that a C-FIND names is matched and returned, items of",
        "sequences too; C-MOVE and C-GET take SOP Instance UIDs:",
        "",
        *table(("model", "storage classes"), [
            (f"`{name}`", ", ".join(uids.name_of(uid) for uid in MODELS[name].objects)) for name in NAMES
        ]),
        "**Query.** Hierarchical and relational queries are both answered, whatever was negotiated: a query that lacks unique",
        "keys of the levels above matches over all of them. `[query] strict = true` (`--strict-queries`) refuses such a query,",
        "and such a retrieve, with A900H where relational ones were not negotiated. Extended negotiation of C-FIND:",
        ", ".join(name for name in QUERY_OPTIONS.__slots__ if getattr(QUERY_OPTIONS, name)).replace("_", " ")
        + "; of C-MOVE and C-GET:",
        ", ".join(name for name in RETRIEVE_OPTIONS.__slots__ if getattr(RETRIEVE_OPTIONS, name)).replace("_", " ")
        + ".",
        "Attributes that are matched and returned (others that are asked for are left out, with FF01H):",
        "",
    )
    rows = [
        (LEVELS[found.level], found.keyword, f"({found.tag >> 16:04X},{found.tag & 0xFFFF:04X})", found.vr,
         "returned" if found.keyword.startswith("NumberOf") and found.computed else "matched, returned")
        for found in ATTRIBUTES.values()
    ]  # fmt: skip
    yield from table(("level", "attribute", "tag", "VR", "use"), rows)
    yield from table(
        ("status of C-FIND", "when"),
        (
            ("FF00H, FF01H", "a match; FF01H where keys were asked for that are not supported"),
            ("0000H", "that was all"),
            ("FE00H", "cancelled"),
            ("A900H", "the identifier does not fit the model"),
            ("C000H to CFFFH", "the identifier cannot be understood, or the query failed"),
            ("0124H", "this AE title may not ask"),
        ),
    )
    yield from (
        f"**Retrieve.** C-MOVE goes to AE titles of the configuration, over up to {limits.move_associations} associations in",
        "parallel; unknown ones get A801H. Contexts are proposed from the objects, one for each class, in the syntaxes of its",
        "objects; objects travel as they lie, or converted between the uncompressed syntaxes. Pending responses carry the",
        "counts. An instance whose class or syntax the receiver did not accept is a failed sub-operation; the Error Comment",
        "names the class.",
        "",
        *table(
            ("status of C-MOVE and C-GET", "when"),
            (
                ("FF00H", "sub-operations go on"),
                ("0000H", "all completed"),
                ("B000H", "some failed; the Failed SOP Instance UID List names them"),
                ("A702H", "all failed"),
                ("A801H", "C-MOVE: the destination is not known"),
                ("A900H", "the identifier does not fit the model"),
                ("FE00H", "cancelled, within 0.2 s; what was under way and is not answered counts as failed, and is named"),
                ("0124H", "this AE title may not retrieve"),
            ),
        ),
        "**Storage commitment.** N-ACTION is answered at once; the result follows by N-EVENT-REPORT on the same association, or",
        "on one that ARCHIVE makes to the address of the configuration, tried again for days. Transactions outlive a restart.",
        "An instance is committed when the index has it and its file is there in full length; failure reasons are 0112H and",
        "0119H.",
        "",
        "**Association initiation.** For C-MOVE and commitment only.",
        "",
    )


def network() -> Iterator[str]:
    yield from ("#### 4.2.4 What programs can use", "")
    yield from ("SOP classes that the library knows, by service; private ones can be registered.", "")
    rows = []
    for service in Service:
        found = [uid for uid, (of, _) in SOP_CLASS_SERVICES.items() if of is service]
        operations = sorted(set().union(*(SOP_CLASS_SERVICES[uid][1] for uid in found)))
        rows.append((service.value, len(found), ", ".join(operations), OWN_INTERFACE.get(service, "DIMSE operations")))
    yield from table(("service", "classes", "operations", "interface"), rows)
    yield from ("Information models of `find`, `get` and `move`:", "")
    models = [
        (f"`{name}`", ", ".join(level for level, _ in model.levels) or "none",
         ", ".join(f"C-{verb.upper()}" for verb in ("find", "move", "get") if getattr(model, verb)))
        for name, model in MODELS.items()
    ]  # fmt: skip
    yield from table(("model", "levels", "operations"), models)
    yield """### 4.3 Network interfaces

TCP/IP, IPv4 and IPv6, over whatever the operating system has. Ports are configurable: 11112 by default, 2762 with TLS.

### 4.4 Configuration

AE titles, addresses and ports are arguments of each command. ARCHIVE reads a TOML file; `dulcet serve --print-config` writes
every parameter with its default. [Limits and timers](reference/limits.md).
"""


def rest() -> Iterator[str]:
    yield """## 5 Media interchange

`dulcet export` is a file-set creator without an application profile: files of PS3.10 with our own file meta, and a
DICOMDIR. The files are copies of what was stored, byte for byte. Records for objects of private classes are of type PRIVATE. A
value of type 1 that a record needs and the object lacks is invented for the DICOMDIR alone, and the command says which.
`dulcet import` and `store` read files; a DICOMDIR, and what is not DICOM, is passed over and counted.

## 6 Support of character sets

Objects are kept and sent as they are, whatever their Specific Character Set. For its index ARCHIVE reads:
"""
    defined = [f"`ISO_IR {number}` (`ISO 2022 IR {number}`)" for number in CODECS if number != "192"]
    alone = [f"`{name}`" for name in STAND_ALONE if name]
    yield from (", ".join([*defined, "`ISO_IR 192`", *alone]) + ".", "")
    yield from (
        "An answer to a query is in the character set of the query, or with ISO 2022 code extensions in those of the query,",
        "where they hold all of that answer, else in `ISO_IR 192` (UTF-8); one of plain ASCII names none. `ISO_IR 13` is JIS X",
        "0201 there, romaji and half-width katakana, without `\\` and `~`. Not held is a character of GB18030 or GBK with a byte",
        "that a receiver could take for a delimiter of the VR (`\\`, in names `^` and `=` as well). Code extensions are switched",
        "back to the first set before delimiters, at line ends and at the end of a value (PS3.5 section 6.1.2.5.3). A query that",
        "names what is no defined term is answered in `ISO_IR 192`. Values of VRs without a character set of their own, as CS,",
        "that hold other bytes than ASCII are read and answered in the same way.",
        "",
    )
    yield from (
        "## 7 Security",
        "",
        "TLS on every association where it is configured, in both roles, by the profiles of PS3.15:",
        "",
    )
    yield from table(
        ("profile", "TLS 1.2 cipher suites, besides TLS 1.3"),
        [(f"B.{name[1:]}", ", ".join(f"`{suite}`" for suite in suites)) for name, suites in PROFILES.items()],
    )
    yield """Certificates are verified, host names by subject alternative name, revocation by lists that are given. Peers can be
bound to AE titles by their certificates. No audit trail (PS3.15 A.5), no digital signatures, no attribute
confidentiality profile.

## 8 Annexes

- **8.1 IOD contents**: none are created.
- **8.2 Data dictionary of private attributes**: none are defined.
- **8.3 Coded terminology and templates**: none are used.
- **8.4 Greyscale image consistency**: nothing is displayed.
- **8.5 Standard extended, specialized and private SOP classes**: kept and sent as they are; accepted where registered, or
  with `--promiscuous`.
- **8.6 Private transfer syntaxes**: none."""


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check say whether it is up to date: 0 when it is, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to write or check")
    options = parser.parse_args(arguments)
    target: Path = options.target
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(page())).rstrip() + "\n"
    if not options.check:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return 0
    print(f"{target} is not up to date: run python tools/generate_conformance.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
