"""The test's certificates, as files for a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .. import certificates
from ..support import authority, client_certificate, server_certificate


@dataclass(frozen=True)
class Files:
    """PEM files. Those of a certificate hold its key, too."""

    ca: Path
    server: Path
    client: Path
    expired: Path
    strange: Path
    strange_ca: Path
    self_signed: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("pem")
    made = Files(*(directory / f"{name}.pem" for name in Files.__dataclass_fields__))
    authority().cert_pem.write_to_path(str(made.ca))
    certificates.strange_authority().cert_pem.write_to_path(str(made.strange_ca))
    server_certificate().private_key_and_cert_chain_pem.write_to_path(str(made.server))
    client_certificate().private_key_and_cert_chain_pem.write_to_path(str(made.client))
    certificates.expired().private_key_and_cert_chain_pem.write_to_path(str(made.expired))
    certificates.of_strange_authority().private_key_and_cert_chain_pem.write_to_path(str(made.strange))
    made.self_signed.write_bytes(certificates.self_signed().pem)
    return made
