"""A mail server that keeps what it is sent, and refuses what a test tells it to. Standard library only."""

from __future__ import annotations

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailBox:
    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)  # by command, e.g. {"RCPT": "550 nobody"}
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    log_ins: list[str] = field(default_factory=list)  # user and password


@contextmanager
def open_mail_box() -> Iterator[MailBox]:
    box = MailBox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 box")
            while line := self.rfile.readline().decode().strip():
                self._answer(*line.partition(" ")[::2])
                if line.upper() == "QUIT":
                    break

        def _answer(self, command: str, rest: str) -> None:
            command = command.upper()
            if command in box.answers:
                self._say(box.answers[command])
            elif command == "EHLO":
                self._say("250-box\r\n250 AUTH PLAIN")
            elif command == "AUTH":
                box.log_ins.append(base64.b64decode(rest.split()[-1]).decode().strip("\0"))
                self._say("235 welcome")
            elif command == "DATA":
                self._say("354 go on")
                self._take()
            elif command == "RCPT":
                box.recipients.append(rest.partition(":")[2])  # after TO, which Python 3.13 writes small
                self._say("250 ok")
            else:
                self._say("221 bye" if command == "QUIT" else "250 ok")

        def _take(self) -> None:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line)
            mail = message_from_bytes(b"".join(lines), policy=policy.default)
            assert isinstance(mail, EmailMessage)
            box.mails.append(mail)
            self._say("250 taken")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()
