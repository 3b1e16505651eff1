"""Ticket keys: sessions that the client keeps for the server, sealed (RFC 9846 section 4.7.1).

How this works. A ticket is the server's own session, encrypted and authenticated under a key that only servers have:

    struct {
        opaque key_name[16];
        opaque nonce[12];
        opaque sealed[...];    /* AES-256-GCM; key_name is the additional data */
    } Ticket;

Time is cut into periods, and each has its key. Tickets are sealed with the key of the period that it is, and opened
with that of any period which tickets may still be alive from; then the key is gone, and with it what anybody could
have learned from tickets that were recorded. The key of a period is random, or derived from a secret and the number
of the period: then every host that has the secret and a clock has the same keys, and none needs to tell another.

Nonces are random. That is safe for about 2^32 tickets under one key (NIST SP 800-38D section 8.3): 99,000 a second,
for a period of twelve hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .sessions import MOST_LIFETIME

__all__ = ["TicketKeys"]

NAME_LENGTH, NONCE_LENGTH, TAG_LENGTH, KEY_LENGTH = 16, 12, 16, 32

#: Bytes. A ClientHello with a larger ticket would not get through everywhere; one is as large only if the client's
#: certificates are.
MOST_TICKET = 2**14

#: Seconds. Shorter periods would need hundreds of keys at a time.
LEAST_ROTATION = 3600

#: Bytes of a shared secret, at least.
LEAST_SECRET = 32


@dataclass(frozen=True, slots=True, repr=False)
class _TicketKey:
    """The key of one period."""

    period: int
    name: bytes
    aead: AESGCM


class TicketKeys:
    """Seals and opens tickets, with keys that change by themselves.

    One object serves any number of connections and configurations. The keys of this one are its own: tickets are good
    in this process, until it ends. For several processes or hosts see `from_secret`.

    Args:
      random: returns so many random bytes; ``secrets.token_bytes``.
      lifetime: for how many seconds a ticket is good, at most 7 days. A key is kept that much longer than it is used
        to seal.
      rotation: for how many seconds one key is used to seal, an hour to 7 days.

    Raises:
      ValueError: a number is out of its range.
    """

    __slots__ = ("_keys", "_random", "_secret", "lifetime", "rotation")

    def __init__(self, random: Callable[[int], bytes], *, lifetime: int = 24 * 3600, rotation: int = 12 * 3600) -> None:
        if not 1 <= lifetime <= MOST_LIFETIME:
            # "Servers MUST NOT use any value greater than 604800 seconds (7 days)" (section 4.7.1)
            raise ValueError(f"the lifetime of a ticket has to be 1 to {MOST_LIFETIME} seconds, not {lifetime!r}")
        if not LEAST_ROTATION <= rotation <= MOST_LIFETIME:
            raise ValueError(
                f"ticket keys have to change every {LEAST_ROTATION} to {MOST_LIFETIME} seconds, not {rotation!r}"
            )
        self.lifetime: int = lifetime
        self.rotation: int = rotation
        self._random = random
        self._secret: bytes | None = None
        #: The present period, and the keys that tickets may be alive of, newest first. A thread that sees this while
        #: another replaces it sees one whole or the other.
        self._keys: tuple[int | None, tuple[_TicketKey, ...]] = (None, ())

    @classmethod
    def from_secret(
        cls, secret: bytes, random: Callable[[int], bytes], *, lifetime: int = 24 * 3600, rotation: int = 12 * 3600
    ) -> TicketKeys:
        """Ticket keys that are the same wherever the secret and the numbers are the same, and the time.

        Clocks may be a period apart. Who learns the secret can open every ticket, the past ones included: keep it as
        the private key is kept, and change it from time to time. Each change costs the clients one full handshake.

        Args:
          secret: at least 32 bytes, random: ``secrets.token_bytes(32)``, made once and handed to every host.
          random: as for the class; for the nonces.
          lifetime: as for the class.
          rotation: as for the class.

        Raises:
          ValueError: the secret is too short, or all zero; or as for the class.
        """
        if len(secret) < LEAST_SECRET:
            raise ValueError(f"the secret has {len(secret)} bytes: at least {LEAST_SECRET} random ones are needed")
        if not any(secret):
            raise ValueError("the secret is all zero: make one of random bytes")
        keys = cls(random, lifetime=lifetime, rotation=rotation)
        keys._secret = bytes(secret)
        return keys

    def seal(self, state: bytes, now: float) -> bytes | None:
        """Make a ticket.

        Args:
          state: what `open` shall return.
          now: seconds since 1970.

        Returns:
          The ticket; None if it would be longer than 16 KiB, which is too long to be of use.
        """
        if len(state) > MOST_TICKET - NAME_LENGTH - NONCE_LENGTH - TAG_LENGTH:
            return None
        period = self._period_of(now)
        key = next(key for key in self._alive(period) if key.period == period)
        nonce = self._random(NONCE_LENGTH)
        return key.name + nonce + key.aead.encrypt(nonce, state, key.name)

    def open(self, ticket: bytes, now: float) -> bytes | None:
        """What a ticket holds; None if it is none of these keys' tickets, or too old, whatever it is.

        A key outlives its last ticket by up to a period, so look at the age of what you get (`ServerSession.expired`).

        Args:
          ticket: any bytes at all.
          now: seconds since 1970.
        """
        if len(ticket) < NAME_LENGTH + NONCE_LENGTH + TAG_LENGTH:
            return None
        name = ticket[:NAME_LENGTH]
        for key in self._alive(self._period_of(now)):
            if key.name == name:
                try:
                    return key.aead.decrypt(
                        ticket[NAME_LENGTH : NAME_LENGTH + NONCE_LENGTH], ticket[NAME_LENGTH + NONCE_LENGTH :], name
                    )
                except InvalidTag:
                    return None
        return None

    def _period_of(self, now: float) -> int:
        return int(now // self.rotation)

    def _alive(self, period: int) -> tuple[_TicketKey, ...]:
        """The keys that tickets may be alive of in this period, newest first."""
        present, keys = self._keys
        if period != present:
            known = {key.period: key for key in keys}
            oldest = period - -(-self.lifetime // self.rotation)
            # The next period's too: another host's clock may be ahead, or ours has gone back.
            keys = tuple(
                key
                for each in range(period + 1, oldest - 1, -1)
                if (key := known.get(each) or self._made(each, period)) is not None
            )
            self._keys = (period, keys)
        return keys

    def _made(self, period: int, present: int) -> _TicketKey | None:
        """The key of a period; None if it is random and was never made."""
        if self._secret is not None:
            info = b"trio_tls ticket key %d of %d" % (period, self.rotation)
            material = HKDF(SHA256(), NAME_LENGTH + KEY_LENGTH, salt=None, info=info).derive(self._secret)
        elif period == present:
            material = self._random(NAME_LENGTH + KEY_LENGTH)
        else:
            return None
        return _TicketKey(period, material[:NAME_LENGTH], AESGCM(material[NAME_LENGTH:]))

    def __repr__(self) -> str:
        source = "random" if self._secret is None else "from a secret"
        return f"<TicketKeys, {source}, lifetime={self.lifetime}, rotation={self.rotation}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("TicketKeys are not pickled or copied: share a secret, and use from_secret()")
