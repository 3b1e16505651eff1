"""``trio-tls check``: what files of certificates and keys hold, what is wrong with them, and what a verifier says.

How this works. Everything is read first (`trio_tls.cli.pem_files`) and looked at (`trio_tls.cli.findings`). Then the
chain is given to the verifier that a client of ours would have: with ``--ca-file`` by the rules for private CAs, else
by those of the public web and what this system trusts. And if there is a key, OpenSSL does a handshake with itself in
memory, for a second opinion. The exit status says whether there is anything that will not work.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import CertificateVerificationError
from ..names import server_subject
from ..trust import PrivatePolicy, TrustAnchors, VerifiedPeer, Verifier, WebPolicy
from ..trust.failures import Reason, reason_of
from .facts import CertificateFacts, certificate_facts
from .files import PEM_HINT, check_readable, password_in, usage
from .findings import findings, fits, leaf_of, presented
from .paper import Paper, Row
from .pem_files import FoundCertificate, Loot, Remark, read_files
from .problem import ExitStatus
from .report import chain as chain_rows
from .second_opinion import openssl_says
from .verdict import passed, refusal

__all__ = ["CheckOptions", "Verdict", "run"]

#: Of more certificates, a bundle of CAs say, only one line each is shown.
MOST_SHOWN = 8

#: Where the hint of `trio_tls.cli.verdict` is for somebody who connects.
_HINTS = {
    Reason.NAME: "Issue it for that name, too",
    Reason.NO_PATH: "If that CA is yours, give its certificate with --ca-file; if it is a public one, put the "
    "intermediate certificates that it has sent behind the certificate",
}

_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What was asked for.

    Attributes:
      files: to look at.
      names: the names that the certificate is checked for; empty: one of its own.
      ca_files: the CAs to trust; empty: those of this system.
      password: for keys that are encrypted, or None.
      client: whether a client presents the certificate.
      soon: how long before its end a certificate is told to be about to expire.
      strict: whether warnings count as errors.
      json: whether the facts are told as JSON.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    ca_files: tuple[str, ...]
    password: bytes | None
    client: bool
    soon: datetime.timedelta
    strict: bool
    json: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> CheckOptions:
        """From argparse's namespace.

        Raises:
          Problem: two options contradict each other, or a file cannot be read.
        """
        if arguments.client and arguments.name:
            raise usage("--name is for servers, not with --client", "Leave out one of them")
        return cls(
            files=tuple(arguments.files),
            names=tuple(arguments.name or ()),
            ca_files=tuple(arguments.ca_file or ()),
            password=password_in(arguments.key_password_file) if arguments.key_password_file else None,
            client=arguments.client,
            soon=datetime.timedelta(days=arguments.soon),
            strict=arguments.strict,
            json=arguments.json,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one verifier says.

    Attributes:
      verifier: which: ``"trio_tls, WebPolicy"``, ``"OpenSSL 3.5.1"``.
      name: the name that the certificate was checked for; None for a client's.
      accepted: whether it is accepted.
      sentence: why, or why not.
      hint: what to do, or ``""``.
      counts: whether a refusal is an error; else it is told and no more.
    """

    verifier: str
    name: str | None
    accepted: bool
    sentence: str
    hint: str
    counts: bool = True

    def as_json(self) -> dict[str, object]:
        """The same, for ``--json``."""
        return {
            "verifier": self.verifier,
            "name": self.name,
            "accepted": self.accepted,
            "message": self.sentence,
            "hint": self.hint,
        }


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
      Problem: a file cannot be read, or a name is none.
    """
    options = CheckOptions.of(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cryptography, about what is odd in certificates: the findings say it
        return _run(options)


def _run(options: CheckOptions) -> int:
    loot = read_files(options.files, options.password)
    leaf = leaf_of(loot)
    now = datetime.datetime.now(datetime.timezone.utc)
    remarks = list(findings(loot, leaf, client=options.client, now=now, soon=options.soon))
    verdicts = list(_verdicts(options, loot, leaf, now)) if leaf is not None else []
    severe = {"error", "warning"} if options.strict else {"error"}
    bad = any(each.severity in severe for each in remarks) or any(
        each.counts and not each.accepted for each in verdicts
    )
    status = ExitStatus.VERIFICATION if bad else ExitStatus.OK
    if options.json:
        Paper(sys.stdout).line(json.dumps(_as_json(loot, leaf, remarks, verdicts, status)))
    else:
        _tell(loot, leaf, remarks, verdicts, now, status)
    return status


def _verdicts(options: CheckOptions, loot: Loot, leaf: FoundCertificate, now: datetime.datetime) -> Iterator[Verdict]:
    chain = presented(loot, leaf)
    anchors = _anchors(options)
    names: Sequence[str | None] = [None] if options.client else (options.names or _names(leaf))
    keys = [key.key for key in loot.keys if key.key is not None and fits(key, leaf)]
    for name in names:
        if anchors is None:
            hint = "Install this system's CA certificates, or give --ca-file"
            yield Verdict("trio_tls", name, accepted=False, sentence="there is nothing to verify it with", hint=hint)
            return
        private = bool(options.ca_files)
        policies = (PrivatePolicy(), WebPolicy()) if private else (WebPolicy(),)
        for policy in policies:
            counts = not (
                private and isinstance(policy, WebPolicy)
            )  # nobody applies the web's rules to a CA of his own
            yield _judged(Verifier(anchors, policy), chain, name, now, counts=counts)
        if keys:
            version, words = openssl_says(chain, keys[0], name, options.ca_files)
            if words is None:
                sentence = "it is valid for a client" if name is None else f"it is valid for {name}"
                yield Verdict(version, name, accepted=True, sentence=sentence, hint="")
            else:
                yield Verdict(version, name, accepted=False, sentence=words, hint="")


def _anchors(options: CheckOptions) -> TrustAnchors | None:
    check_readable("--ca-file", *options.ca_files)
    if not options.ca_files:
        try:
            return TrustAnchors.system()
        except ValueError:
            return None
    try:
        return TrustAnchors.from_files(*options.ca_files)
    except ValueError as error:
        raise usage(f"--ca-file holds no CA certificate in PEM: {error}", PEM_HINT) from error


def _names(leaf: FoundCertificate) -> list[str]:
    """One name of the certificate, to check it for: which, is of no account, as it has them all."""
    for name in leaf.facts.names:
        kind, _, value = name.partition(":")
        if kind in ("DNS", "IP"):
            value = value.replace("*", "www", 1) if value.startswith("*.") else value
            with contextlib.suppress(ValueError):  # no host can have it; the next one may do
                server_subject(value)
                return [value]
    return ["localhost"]


def _judged(
    verifier: Verifier, chain: Sequence[FoundCertificate], name: str | None, now: datetime.datetime, *, counts: bool
) -> Verdict:
    ders = [each.der for each in chain]
    which = f"trio_tls, {type(verifier.policy).__name__}"
    try:
        peer = verifier.verify_client(ders, now) if name is None else verifier.verify_server(ders, name, now)
    except CertificateVerificationError as error:
        sentence, hint = refusal(error, [each.facts for each in chain], name)
        hint = _HINTS.get(reason_of(error.verify_message), hint)
        return Verdict(which, name, accepted=False, sentence=sentence, hint=hint if counts else "", counts=counts)
    except ValueError as error:
        raise usage(f"--name {name}: {error}", "Give the name or the address that clients connect to") from error
    return Verdict(which, name, accepted=True, sentence=_why(peer, name), hint="", counts=counts)


def _why(peer: VerifiedPeer, name: str | None) -> str:
    facts = [certificate_facts(each.public_bytes(Encoding.DER)) for each in peer.chain]
    if name is not None:
        return passed(facts, name)
    return f'the certificate leads to "{facts[-1].common_name}", which is trusted'


# -- telling it --------------------------------------------------------------------------------------------


def _as_json(
    loot: Loot, leaf: FoundCertificate | None, remarks: Sequence[Remark], verdicts: Sequence[Verdict], status: int
) -> dict[str, object]:
    return {
        "ok": status == ExitStatus.OK,
        "exit_status": int(status),
        "certificates": [
            each.facts.as_json() | {"file": each.file, "is_ca": each.is_ca, "is_presented": each is leaf}
            for each in loot.certificates
        ],
        "keys": [
            {
                "file": key.file,
                "kind": key.kind,
                "fits": next((each.facts.sha256 for each in loot.certificates if fits(key, each)), None),
            }
            for key in loot.keys
        ],
        "findings": [remark.as_json() for remark in remarks],
        "verdicts": [verdict.as_json() for verdict in verdicts],
    }


def _tell(
    loot: Loot,
    leaf: FoundCertificate | None,
    remarks: Sequence[Remark],
    verdicts: Sequence[Verdict],
    now: datetime.datetime,
    status: int,
) -> None:
    paper = Paper(sys.stdout)
    chain = presented(loot, leaf) if leaf is not None else loot.certificates
    paper.rows(_certificates([each.facts for each in chain], now))
    paper.rows(_keys(loot))
    paper.rows(_verdict_rows(verdicts))
    for severity in ("error", "warning", "note"):
        for remark in remarks:
            if remark.severity == severity:
                paper.segments([(f"{severity}: ", _STYLES[severity]), (remark.sentence, "")])
                if remark.hint:
                    paper.line(f"  {remark.hint}")
    paper.line(_conclusion(remarks, verdicts, status), "green" if status == ExitStatus.OK else "bold red")


def _conclusion(remarks: Sequence[Remark], verdicts: Sequence[Verdict], status: int) -> str:
    severities = {remark.severity for remark in remarks}
    if status == ExitStatus.OK:
        return "nothing is wrong, but mind the warnings" if "warning" in severities else "nothing is wrong"
    if "error" in severities:
        return "this will not work"
    if any(verdict.counts and not verdict.accepted for verdict in verdicts):
        return "a verifier does not accept it"
    return "there are warnings, and --strict was given"


def _certificates(facts: Sequence[CertificateFacts], now: datetime.datetime) -> Iterator[Row]:
    if len(facts) <= MOST_SHOWN:
        yield from chain_rows("found", facts)
        return
    yield Row("found", f"{len(facts)} certificates")
    for each in facts:
        yield Row("", f"{each.common_name}: {each.validity(now)}", depth=1)


def _keys(loot: Loot) -> Iterator[Row]:
    for key in loot.keys:
        whose = next((each.facts.common_name for each in loot.certificates if fits(key, each)), None)
        words = f'fits "{whose}"' if whose is not None else "fits none of them" if key.key else "not compared"
        yield Row("key", f"{key.kind}, in {key.file}: {words}", "green" if whose is not None else "")


def _verdict_rows(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    for verdict in verdicts:
        style = "green" if verdict.accepted else "bold red" if verdict.counts else ""
        word = "accepted" if verdict.accepted else "refused"
        yield Row("verifier", f"{verdict.verifier}: {word}: {verdict.sentence}", style)
        if verdict.hint:
            yield Row("", verdict.hint)
