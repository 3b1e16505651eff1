"""Connections as Wireshark records them: a pcap file made of the bytes of both directions.

How this works. To record from an interface takes privileges that a test should not need. A file with the same bytes in
TCP segments that nobody has lost shows the same: `tshark` reads it, and never looks at checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

CLIENT, SERVER = (b"\x7f\x00\x00\x01", 51440), (b"\x7f\x00\x00\x01", 4433)

#: Packets begin with IP (LINKTYPE_RAW).
RAW_IP = 101
ACK, PSH, SYN = 0x10, 0x08, 0x02
MOST_PAYLOAD = 1400


def write_pcap(path: Path, pieces: Iterable[tuple[bool, bytes]]) -> None:
    """Write a recording.

    Args:
      path: the file.
      pieces: what was sent, in order: whether by the client, and the bytes.
    """
    sent = {True: 0, False: 0}
    packets = [_packet(sent, by_client=True, flags=SYN), _packet(sent, by_client=False, flags=SYN | ACK)]
    for by_client, data in pieces:
        for start in range(0, len(data), MOST_PAYLOAD):
            packets.append(_packet(sent, by_client=by_client, flags=ACK | PSH, data=data[start : start + MOST_PAYLOAD]))
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP)
    records = (
        struct.pack("<IIII", 0, 1000 * number, len(packet), len(packet)) + packet
        for number, packet in enumerate(packets)
    )
    path.write_bytes(header + b"".join(records))


def _packet(sent: dict[bool, int], *, by_client: bool, flags: int, data: bytes = b"") -> bytes:
    source, target = (CLIENT, SERVER) if by_client else (SERVER, CLIENT)
    tcp = struct.pack(
        ">HHIIBBHHH", source[1], target[1], sent[by_client], sent[not by_client], 5 << 4, flags, 65535, 0, 0
    )
    sent[by_client] += len(data) or bool(flags & SYN)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, source[0], target[0])
    return ip + tcp + data
