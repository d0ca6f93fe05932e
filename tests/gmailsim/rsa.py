# rsa - checks RS256 signatures of JSON web tokens
# SPDX-License-Identifier: Apache-2.0
"""RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.2), public keys as PEM
SubjectPublicKeyInfo. Only verification, so no secrets are handled here."""

import base64
import hashlib

_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_RSA_OID = bytes.fromhex("06092a864886f70d010101")


class KeyFormatError(ValueError):
    """A public key that cannot be read."""


def _der(data, tag):
    """(content, rest) of the DER element at the start of `data`."""
    if len(data) < 2 or data[0] != tag:
        raise KeyFormatError("expected DER tag %#x" % tag)
    length, start = data[1], 2
    if length & 0x80:
        count = length & 0x7f
        length, start = int.from_bytes(data[2:2 + count], "big"), 2 + count
    if len(data) < start + length:
        raise KeyFormatError("DER element is cut short")
    return data[start:start + length], data[start + length:]


def public_key(pem):
    """(n, e) of a PEM public key."""
    head, _, rest = pem.partition("-----BEGIN PUBLIC KEY-----")
    body, end, _ = rest.partition("-----END PUBLIC KEY-----")
    if not end:
        raise KeyFormatError("no PEM public key")
    outer, _ = _der(base64.b64decode(body), 0x30)
    algorithm, rest = _der(outer, 0x30)
    if not algorithm.startswith(_RSA_OID):
        raise KeyFormatError("not an RSA key")
    bits, _ = _der(rest, 0x03)
    numbers, _ = _der(bits[1:], 0x30)
    n, rest = _der(numbers, 0x02)
    e, _ = _der(rest, 0x02)
    return int.from_bytes(n, "big"), int.from_bytes(e, "big")


def verify(key, message, signature):
    """Whether `signature` is RS256 of `message` under `key` (n, e)."""
    n, e = key
    size = (n.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= n:
        return False
    digest = _SHA256_INFO + hashlib.sha256(message).digest()
    expected = b"\x00\x01" + b"\xff" * (size - 3 - len(digest)) + b"\x00" + \
        digest
    return pow(number, e, n).to_bytes(size, "big") == expected
