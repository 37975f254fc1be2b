"""TLS both ways: each side proves who it is, and a certificate may use its own AE title only.  Needs `openssl`."""

import logging
import subprocess
import tempfile
from pathlib import Path

import dulcet

NEW = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


def openssl(folder: Path, *commands: str) -> None:
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def issue(folder: Path, *names: str) -> None:
    """A trial authority, and certificates for `NAME.example.org` and the loopback; a hospital's authority does this."""
    openssl(folder, f"req -x509 {NEW} -days 2 -subj /CN=Trial -keyout ca.key -out ca.pem")
    for name in names:
        (folder / "names").write_text(f"subjectAltName=DNS:{name}.example.org,DNS:localhost,IP:127.0.0.1\n")
        openssl(
            folder,
            f"req {NEW} -subj /CN={name} -keyout {name}.key -out {name}.csr",
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names -out {name}.pem",
        )


def config(folder: Path, name: str, **more) -> dulcet.TLSConfig:
    return dulcet.TLSConfig(
        ca_file=folder / "ca.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key", **more
    )


def main(folder: Path) -> None:
    logging.disable(logging.WARNING)  # the refusals below are meant
    issue(folder, "archive", "ct1")
    table = dulcet.CertificateTable({"DNS:ct1.example.org": "CT1"})
    node = dulcet.Node("ARCHIVE")
    with node.threads(tls=config(folder, "archive", table=table)) as serving:
        address = f"ARCHIVE@localhost:{serving.address.port}"
        ours = config(folder, "ct1")
        with dulcet.associate(address, calling_ae_title="CT1", tls=ours) as association:
            print(association.tls.version, association.echo().status)
        for what, title, tls in (
            ("another's title", "MR1", ours),
            ("no certificate", "CT1", dulcet.TLSConfig(ca_file=folder / "ca.pem")),
            ("no TLS", "CT1", None),
        ):
            try:
                dulcet.associate(address, calling_ae_title=title, tls=tls).release()
            except dulcet.DulcetError as error:
                print(f"{what}: {type(error).__name__}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
