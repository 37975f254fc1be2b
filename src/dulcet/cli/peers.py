"""`dulcet peers`: who can be called by name."""

from __future__ import annotations

from dulcet.cli.command import JSON, verb
from dulcet.cli.output import complain, say, say_json

__all__ = ["peers"]


@verb("peers")
@JSON
def peers(json: bool) -> int:
    """List the peers that have names.

    They stand in the file that DULCET_PEERS names, else in ~/.config/dulcet/peers.toml.

    \b
    dulcet peers
    DULCET_PEERS=ward.toml dulcet peers --json
    """
    from dulcet.cli.peers_file import peers_file, read_peers

    path = peers_file()
    try:
        found = {name: peer for name, peer in read_peers(path).items() if peer.address is not None}
    except FileNotFoundError:
        complain(f"no peer has a name: {path} does not exist")
        return 0
    if json:
        for name, peer in found.items():
            say_json(
                name=name, address=str(peer.address), calling=peer.options.get("aet"), tls="tls" in peer.options,
                file=str(path),
            )  # fmt: skip
        return 0
    width = max(map(len, found), default=0)
    wide = max((len(str(peer.address)) for peer in found.values()), default=0)
    for name, peer in found.items():
        calling = [f"as {peer.options['aet']}"] if "aet" in peer.options else []
        notes = ", ".join([*calling, *(["with TLS"] if "tls" in peer.options else [])])
        say(f"{name:<{width}}  {peer.address!s:<{wide}}  {notes}".rstrip())
    say(f"{len(found)} in {path}")
    return 0
