# envelope - arguments of MAIL and RCPT
# SPDX-License-Identifier: Apache-2.0
"""Paths and parameters (RFC 5321 section 4.1.2, RFC 6531)."""

import re

_PATH = re.compile(rb'[ ]?<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?:[ ]+(.*))?\Z',
                   re.DOTALL)
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_LOCAL = r'(?:%s+(?:\.%s+)*|"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*")' % (
    _ATEXT, _ATEXT)
_LABEL = (r"[A-Za-z0-9\x80-\U0010ffff]"
          r"(?:[A-Za-z0-9\x80-\U0010ffff-]*[A-Za-z0-9\x80-\U0010ffff])?")
_DOMAIN = r"(?:%s(?:\.%s)*|\[[0-9A-Za-z:.]+\])" % (_LABEL, _LABEL)
_ADDRESS = re.compile("(%s)@(%s)\\Z" % (_LOCAL, _DOMAIN))
_ROUTE = re.compile(r"@[^:]*:")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?\Z")


class EnvelopeError(Exception):
    """A reply name that says what is wrong, and the address if known."""

    def __init__(self, reply, address=""):
        super().__init__(reply)
        self.reply = reply
        self.address = address


def parse(keyword, argument):
    """(address as text, parameters) of "FROM:<..> .." or "TO:<..> .."."""
    if argument[:len(keyword)].upper() != keyword:
        raise EnvelopeError("syntax")
    match = _PATH.match(argument[len(keyword):])
    if not match:
        raise EnvelopeError("syntax")
    parameters = {}
    for word in (match[2] or b"").split():
        found = _PARAMETER.match(word)
        if not found or found[1].upper().decode() in parameters:
            raise EnvelopeError("syntax")
        parameters[found[1].upper().decode()] = \
            found[2].decode() if found[2] else None
    try:
        address = match[1].decode("utf-8")
    except UnicodeDecodeError:
        raise EnvelopeError("syntax") from None
    return _ROUTE.sub("", address, count=1) if address[:1] == "@" else \
        address, parameters


def check_address(address, utf8, reply):
    """EnvelopeError unless it is local@domain, in ASCII without SMTPUTF8."""
    match = _ADDRESS.match(address)
    if not match or len(match[2]) > 255 or \
            (not utf8 and not address.isascii()):
        raise EnvelopeError(reply, address)
