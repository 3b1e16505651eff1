"""What is wrong with a chain and its key, or will be soon: everything that can be seen without asking a verifier.

How this works. `leaf_of` finds out which certificate is to be presented: the one that a key fits, else the first that
is no CA. Then each function looks at one thing, and yields remarks; none of them stops the others, because a person
who mends a chain wants to hear all of it at once.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric import rsa

from ..credentials import Credential
from .pem_files import FoundCertificate, FoundKey, Loot, Remark

__all__ = ["findings", "fits", "leaf_of", "presented"]

#: Signatures by these hashes can be forged.
_BROKEN_HASHES = ("md2", "md5", "sha1")

LEAST_RSA_BITS = 2048

#: Browsers refuse certificates of public CAs that are valid for longer.
MOST_DAYS = 398


def fits(key: FoundKey, certificate: FoundCertificate) -> bool:
    """Whether the key is that of the certificate."""
    return key.key is not None and certificate.public_key == key.key.public_key()


def leaf_of(loot: Loot) -> FoundCertificate | None:
    """The certificate that is to be presented; None if there are only certificates of CAs, and no key to one."""
    for certificate in loot.certificates:
        if any(fits(key, certificate) for key in loot.keys):
            return certificate
    for certificate in loot.certificates:
        if not certificate.is_ca:
            return certificate
    # One that vouches for itself may well be a server's.
    alone = loot.certificates[0] if len(loot.certificates) == 1 else None
    return alone if alone is not None and alone.facts.names else None


def presented(loot: Loot, leaf: FoundCertificate) -> list[FoundCertificate]:
    """The leaf, and the others in their order, each once."""
    chain = {each.facts.sha256: each for each in (leaf, *loot.certificates)}
    return list(chain.values())


def findings(
    loot: Loot, leaf: FoundCertificate | None, *, client: bool, now: datetime.datetime, soon: datetime.timedelta
) -> Iterator[Remark]:
    """Everything worth saying, errors and the rest mixed.

    Args:
      loot: what was found.
      leaf: the certificate that is to be presented, or None.
      client: whether a client presents it.
      now: aware.
      soon: how long before its end a certificate is told to be about to expire.
    """
    yield from loot.remarks
    for certificate in loot.certificates:
        yield from _validity(certificate, now, soon, of_bundle=leaf is None and not loot.keys)
        yield from _strength(certificate)
    yield from _keys(loot, leaf)
    if leaf is not None:
        yield from _leaf(leaf, client=client)
        yield from _order(loot.certificates, leaf)


def _validity(
    found: FoundCertificate, now: datetime.datetime, soon: datetime.timedelta, *, of_bundle: bool
) -> Iterator[Remark]:
    """``of_bundle``: one of several to trust, where one that has expired does no harm to the others."""
    whose = f'the certificate "{found.facts.common_name}"'
    begins, ends = found.certificate.not_valid_before_utc, found.certificate.not_valid_after_utc
    if now > ends:
        hint = "Leave it out: it vouches for nobody any more" if of_bundle else "Renew it"
        yield Remark("warning" if of_bundle else "error", f"{whose} expired on {_when(ends)}", hint)
    elif now < begins:
        sentence = f"{whose} is not valid before {_when(begins)}"
        yield Remark("error", sentence, "Wait for it, or check this machine's clock")
    elif now + soon > ends:
        left = found.facts.validity(now).rpartition("(")[2].rstrip(")")
        yield Remark("warning", f"{whose} expires on {_when(ends)}: {left}", "Renew it")


def _when(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _strength(certificate: FoundCertificate) -> Iterator[Remark]:
    facts, key = certificate.facts, certificate.public_key
    whose = f'the certificate "{facts.common_name}"'
    if key is None:
        yield Remark("error", f"{whose} has a key of a kind that is not known here ({facts.key_type})")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        sentence = f"{whose} has an RSA key of {key.key_size} bits, and peers refuse fewer than {LEAST_RSA_BITS}"
        yield Remark("error", sentence, "Issue it with a larger key, or with an ECDSA key")
    broken = any(name in facts.signature_algorithm.lower() for name in _BROKEN_HASHES)
    if broken and not certificate.is_self_issued:
        sentence = f"{whose} is signed with {facts.signature_algorithm}, which can be forged"
        yield Remark("error", sentence, "Have it issued anew, with SHA-256 or better")


def _keys(loot: Loot, leaf: FoundCertificate | None) -> Iterator[Remark]:
    if not loot.certificates and loot.keys:
        yield Remark("error", "there is a key, but no certificate", "Give the certificate's file, too")
        return
    if loot.certificates and not loot.keys and leaf is not None:
        yield Remark("note", "there is no private key among these files, so none was compared")
    for key in loot.keys:
        if key.key is not None and not any(fits(key, each) for each in loot.certificates):
            about = ", ".join(f'"{each.facts.common_name}"' for each in loot.certificates[:3])
            yield Remark(
                "error",
                f"the key in {key.file} ({key.kind}) does not belong to {about}",
                "Give the key that the certificate was requested with, or the certificate that was issued for this key",
            )


def _leaf(leaf: FoundCertificate, *, client: bool) -> Iterator[Remark]:
    facts = leaf.facts
    try:
        Credential.remote(leaf.certificate, lambda scheme, message: b"")
    except ValueError as error:
        if "bits" not in str(error):  # that was told
            yield Remark("error", str(error).partition(":")[0])
    if not facts.names and not client:
        yield Remark(
            "error",
            f'the certificate "{facts.common_name}" has no names (no subjectAltName)',
            "Issue it with the server's names as subjectAltName; the common name is not looked at",
        )
    days = (leaf.certificate.not_valid_after_utc - leaf.certificate.not_valid_before_utc).days
    if days > MOST_DAYS and not (client or leaf.is_self_issued or leaf.is_ca):
        yield Remark("note", f"it is valid for {days} days; browsers take at most {MOST_DAYS} from public CAs")


def _order(certificates: Sequence[FoundCertificate], leaf: FoundCertificate) -> Iterator[Remark]:
    """As RFC 9846 section 4.5.1 has it: the sender's own first, then each certifies the one before."""
    if certificates[0] is not leaf:
        yield Remark(
            "warning",
            f'"{leaf.facts.common_name}" is not the first certificate, though it is the one to present',
            "Put it first: most servers take the first certificate for their own",
        )
    several: dict[str, int] = {}
    for each in certificates:
        several[each.facts.sha256] = several.get(each.facts.sha256, 0) + 1
    for each in presented(Loot(list(certificates)), leaf):
        if several[each.facts.sha256] > 1:
            yield Remark(
                "note", f'"{each.facts.common_name}" is there {several[each.facts.sha256]} times', "Once will do"
            )
    chain = presented(Loot(list(certificates)), leaf)
    path = _path(chain)
    for each in chain:
        if each not in path:
            yield Remark(
                "warning",
                f'"{each.facts.common_name}" has not issued any of the others, and is of no use in this chain',
                "Leave it out",
            )
    in_order = [each for each in chain if each in path]
    if in_order != path:
        names = ", ".join(f'"{each.facts.common_name}"' for each in path)
        yield Remark("warning", "the chain is not in order, which some peers do not take", f"The order is: {names}")
    if len(path) > 1 and path[-1].is_self_issued:
        yield Remark(
            "note",
            f'"{path[-1].facts.common_name}" is a root: whoever trusts it has it, and need not be sent it',
        )


def _path(chain: Sequence[FoundCertificate]) -> list[FoundCertificate]:
    """The leaf, its issuer, the issuer's issuer, as far as they are there."""
    path = [chain[0]]
    while not path[-1].is_self_issued:
        above = next((each for each in chain if each not in path and _issued(each, path[-1])), None)
        if above is None:
            break
        path.append(above)
    return path


def _issued(issuer: FoundCertificate, certificate: FoundCertificate) -> bool:
    try:
        certificate.certificate.verify_directly_issued_by(issuer.certificate)
    except Exception:  # another name, another key, a signature that does not fit or cannot be checked: not by this one
        return False
    return True
