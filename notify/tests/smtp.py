#!/usr/bin/python3
"""A mail server for the tests of notices: smtp.py none|starttls|tls CERT KEY [USER PASSWORD]

Says its port on the first line, and then each mail as a line of JSON."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Keeper:
    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None
            or server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data,
            "text": envelope.content.decode(),
        }
        print(json.dumps(mail), flush=True)
        return "250 taken"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        if address.startswith("busy@"):
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 ok"


def main():
    mode, certificate, key, *login = sys.argv[1:]
    context = None
    if mode != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)

    def check(server, session, envelope, mechanism, data):
        right = [data.login.decode(), data.password.decode()] == login
        return AuthResult(success=right, handled=False, auth_data=data.login.decode())

    settings = {"hostname": "localhost"}
    if login:
        settings.update(
            authenticator=check,
            auth_required=True,
            auth_require_tls=mode == "starttls",
        )
    if mode == "starttls":
        settings.update(tls_context=context, require_starttls=True)

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(Keeper(), **settings),
            "127.0.0.1",
            0,
            ssl=context if mode == "tls" else None,
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


main()
