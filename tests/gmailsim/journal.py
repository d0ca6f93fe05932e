# journal - every accepted message, byte for byte
# SPDX-License-Identifier: Apache-2.0
"""The journal directory: NNNNNNNN.eml for each message, and journal.jsonl with
one line each. Both are written before the client is told 250."""

import base64
import json
import os


class Journal:
    """Entries count from 1. Contents are kept in the files only."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        self.entries = self._read()
        self._lines = None
        self._open("ab")

    def _read(self):
        """What an earlier run left here; the journal goes on from there."""
        try:
            with open(os.path.join(self.directory, "journal.jsonl"),
                      "rb") as lines:
                return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []

    def _open(self, mode):
        if self._lines:
            self._lines.close()
        self._lines = open(os.path.join(self.directory, "journal.jsonl"),
                           mode, buffering=0)

    def _path(self, entry):
        return os.path.join(self.directory, entry["file"])

    def add(self, content, **fields):
        """Write one message; its entry."""
        index = len(self.entries) + 1
        entry = {"index": index, "file": "%08d.eml" % index,
                 "size": len(content), **fields}
        fd = os.open(self._path(entry),
                     os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view):]
        finally:
            os.close(fd)
        self._lines.write(json.dumps(entry).encode() + b"\n")
        self.entries.append(entry)
        return entry

    def content(self, entry):
        with open(self._path(entry), "rb") as file:
            return file.read()

    def select(self, since=0, content=True, account=None, limit=None):
        """Entries after index `since`, as JSON-ready objects."""
        chosen = self.entries[max(0, since):]
        if account:
            chosen = [e for e in chosen
                      if (e["account"] or "").lower() == account.lower()]
        chosen = chosen[:limit] if limit else chosen
        if not content:
            return chosen
        return [{**e, "content": base64.b64encode(self.content(e)).decode()}
                for e in chosen]

    def clear(self):
        """Forget all, files too."""
        for entry in self.entries:
            try:
                os.unlink(self._path(entry))
            except FileNotFoundError:
                pass
        self.entries = []
        self._open("wb")

    def close(self):
        self._lines.close()
