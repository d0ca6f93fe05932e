# certs - a private CA and the server's certificates, made by openssl
# SPDX-License-Identifier: Apache-2.0
"""Certificates and TLS contexts.

`good` is what a client should accept; `expired`, `wrong_name` and `self_signed`
are what it should refuse; `no_sni` is what Google shows to a client that sends
no server name.
"""

import os
import ssl
import subprocess
import time

KINDS = ("good", "expired", "wrong_name", "self_signed", "no_sni")
NAMES = ("smtp.gmail.com", "smtp-relay.gmail.com", "oauth2.googleapis.com",
         "accounts.google.com", "imap.gmail.com", "pop.gmail.com",
         "smtp.office365.com", "login.microsoftonline.com", "localhost")
_LEAF_DAYS = 30
_MAX_AGE_S = 7 * 86400
_SAN = ",".join("DNS:" + n for n in NAMES) + ",IP:127.0.0.1,IP:::1"
_NO_SNI = "/OU=No SNI provided; please fix your client./CN=invalid2.invalid"
_CA_CNF = """\
[ca]
default_ca = sim
[sim]
dir = {dir}
new_certs_dir = {dir}
database = {dir}/index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[leaf]
subjectAltName = {san}
basicConstraints = critical,CA:FALSE
"""


class CertError(Exception):
    """openssl could not make a certificate."""


def _openssl(*args):
    return subprocess.Popen(("openssl",) + args, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _finish(*processes):
    for process in processes:
        output = process.communicate()[0].decode("utf-8", "replace")
        if process.returncode:
            raise CertError("openssl failed: " + " ".join(process.args) +
                            "\n" + output)


def _request(path, subject, *extra):
    return _openssl("req", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-sha256",
                    "-keyout", path + ".key", "-out", path + ".pem",
                    "-subj", subject, *extra)


class Certs:
    """The files below `directory`, and a TLS context for each kind."""

    def __init__(self, directory):
        self.directory = directory
        self.ca_file = os.path.join(directory, "ca.pem")
        self._make_all()
        self.contexts = {kind: self._context(kind) for kind in KINDS}

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _fresh(self):
        try:
            made = os.stat(self._path("complete")).st_mtime
        except OSError:
            return False
        return 0 <= time.time() - made < _MAX_AGE_S

    def _make_all(self):
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if self._fresh():
            return
        _finish(_request(self._path("ca"), "/O=gmailsim/CN=gmailsim test CA",
                         "-x509", "-days", str(2 * _LEAF_DAYS), "-addext",
                         "basicConstraints=critical,CA:TRUE", "-addext",
                         "keyUsage=critical,keyCertSign,cRLSign"))
        days = ("-x509", "-days", str(_LEAF_DAYS))
        by_ca = days + ("-CA", self.ca_file, "-CAkey", self._path("ca.key"),
                        "-addext", "basicConstraints=critical,CA:FALSE")
        _finish(
            _request(self._path("good"), "/CN=smtp.gmail.com", *by_ca,
                     "-addext", "subjectAltName=" + _SAN),
            _request(self._path("wrong_name"), "/CN=mail.example.net", *by_ca,
                     "-addext", "subjectAltName=DNS:mail.example.net"),
            _request(self._path("self_signed"), "/CN=smtp.gmail.com", *days,
                     "-addext", "subjectAltName=" + _SAN),
            _request(self._path("no_sni"), _NO_SNI, *days, "-addext",
                     "subjectAltName=DNS:invalid2.invalid"),
            _request(self._path("expired"), "/CN=smtp.gmail.com"))
        self._sign_expired()
        with open(self._path("complete"), "w", encoding="ascii"):
            pass

    def _sign_expired(self):
        """`req -days` takes no past date, `ca -enddate` does."""
        with open(self._path("ca.cnf"), "w", encoding="ascii") as cnf:
            cnf.write(_CA_CNF.format(dir=self.directory, san=_SAN))
        with open(self._path("index.txt"), "w", encoding="ascii"):
            pass
        csr = self._path("expired.csr")
        os.replace(self._path("expired.pem"), csr)
        _finish(_openssl(
            "ca", "-batch", "-notext", "-config", self._path("ca.cnf"),
            "-extensions", "leaf", "-cert", self.ca_file, "-keyfile",
            self._path("ca.key"), "-in", csr, "-out",
            self._path("expired.pem"), "-startdate", "200101000000Z",
            "-enddate", "200201000000Z"))

    def _context(self, kind):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._path(kind + ".pem"),
                                self._path(kind + ".key"))
        return context

    def listener_context(self, choose):
        """A context for one listener. `choose(server_name)` is asked at each
        handshake for the kind of certificate to show, or returns a TLS alert
        number to refuse it."""
        context = self._context("no_sni")

        def on_name(connection, server_name, _context):
            kind = choose(server_name)
            if isinstance(kind, int):
                return kind
            if server_name is None and kind == "good":
                kind = "no_sni"
            connection.context = self.contexts[kind]
            return None

        context.sni_callback = on_name
        return context


def service_account_key(path):
    """Make an RSA key below `path` (unless it is there) and return the names
    of the private and the public key file."""
    private, public = path + ".key", path + ".pub"
    if not os.path.exists(public):
        _finish(_openssl("genpkey", "-algorithm", "RSA", "-pkeyopt",
                         "rsa_keygen_bits:2048", "-out", private))
        _finish(_openssl("pkey", "-in", private, "-pubout", "-out", public))
    return private, public
