"""Keys that are the same however often an event is sent: what makes delivery at least once harmless."""

import hashlib

KEY_BYTES = 16
_PERSON_IMPRESSION = b"exfm-impression"


def impression_key(vertical: str, request_id: str, ad: int) -> bytes:
    """The impression of one ad in one vertical's answer: 16 bytes of BLAKE2b over the ad's key and both names.

    Two verticals may be asked under one request id.
    """
    name = vertical.encode()
    content = ad.to_bytes(8, "little", signed=True) + len(name).to_bytes(4, "little") + name + request_id.encode()
    return hashlib.blake2b(content, digest_size=KEY_BYTES, person=_PERSON_IMPRESSION).digest()


def event_number(key: bytes) -> int:
    """The first eight bytes of a key as a number in [0, 2**64), for the packed history."""
    return int.from_bytes(key[:8], "little")


def space_of(snapshot: str) -> int:
    """A snapshot's embedding space as a number in [0, 2**32)."""
    return int.from_bytes(hashlib.blake2b(snapshot.encode(), digest_size=4).digest(), "little")
