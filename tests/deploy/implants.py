"""Programs that tests put into the booted machine."""

from __future__ import annotations

HANG = """
# Hangs whoever lists the spool, once /run/hang is there: the place where the processor's loop looks.
import os, sys, time

def hang(event, arguments):
    if event == "os.scandir" and "/spool/" in str(arguments[0]) and os.path.exists("/run/hang"):
        time.sleep(10_000)

sys.addaudithook(hang)
"""

CHECK_SIGNATURES = """
# Says how many right signatures a PDF carries, as the processor asks.
import asyncio, pathlib, types
from processor.signatures import FileToCheck, SignatureCheck

async def main():
    pdf = pathlib.Path("/srv/contract.pdf")
    settings = types.SimpleNamespace(signature_authorities="")
    found = await SignatureCheck().check([FileToCheck("contract", pdf, "pdf")], [], settings)
    print(found[pdf])

asyncio.run(main())
"""

STAND_INS = """
# What takes alarms, by POST and as sendmail: each lands in /srv/told, the newest at its end.
import http.server, sys

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        note("webhook", self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

def note(way, text):
    with open("/srv/told", "a") as told:
        told.write(f"{way}: {text}\\n")

if sys.argv[1:] == ["-t"]:
    note("mail", sys.stdin.read())
else:
    http.server.HTTPServer(("127.0.0.1", 8999), Hook).serve_forever()
"""
