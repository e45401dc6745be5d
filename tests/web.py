"""A server on this machine that plays the faults of the real ones."""

import hashlib
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from clipfit.io.downloads import Patience

EAGER = Patience(attempts=3, pause=0)  # never waits between attempts
SHORT = Patience(attempts=2, pause=0, timeout=0.4)  # gives up a server that is slow
CERTIFICATE = Path(__file__).parent / "fixtures/tls/self_signed.pem"  # of nobody, made for tests


def patience_for(fault):
    return SHORT if fault == "slow" else EAGER


class Server:
    """Files over HTTP. `faults` maps a path to what is wrong with its answers.

    404, 403, 503   that status
    cut             half of the file, once
    slow            no answer until the client has gone
    html            a page, status 200
    no ranges       the whole file, whatever part is asked for
    range refused   416 to every request for a part
    no head         405 to HEAD
    """

    def __init__(self, tls=False):
        self.files = {}  # path -> bytes
        self.faults = {}  # path -> fault
        self.moved = {}  # path -> path
        self.break_after = []  # bytes after which the next answers break off
        self.asked = []  # (path, Range header)
        self.methods = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):  # clients that refuse the certificate, or go
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def url(self, path):
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}/{path}"

    @property
    def paths(self):
        """What was asked for, in order."""
        return [path for path, _ in self.asked]

    def answer(self, request):
        path, wanted = request.path.strip("/"), request.headers.get("Range")
        self.asked.append((path, wanted))
        self.methods.append(request.command)
        fault = self.faults.get(path)
        if path in self.moved:
            request.send_response(302)
            request.send_header("Location", self.url(self.moved[path]))
            request.end_headers()
        elif fault == "slow":
            self.closing.wait(5)
        elif isinstance(fault, int) or (path not in self.files and fault != "html"):
            request.send_error(fault or 404)
        elif fault == "no head" and request.command == "HEAD":
            request.send_error(405)
        elif fault == "range refused" and wanted:
            request.send_error(416)
        elif fault == "html":
            self._send(request, b"<html>Quota exceeded</html>", None, "text/html")
        else:
            if fault == "cut":
                self.break_after.append(len(self.files[path]) // 2)
                del self.faults[path]
            self._send(request, self.files[path], None if fault == "no ranges" else wanted)

    def _send(self, request, content, wanted, kind="application/octet-stream"):
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if wanted and request.headers.get("If-Range", tag) == tag:
            start = int(re.match(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("Content-Type", kind)
        request.send_header("ETag", tag)
        request.end_headers()
        if request.command == "GET":
            stop = start + self.break_after.pop(0) if self.break_after else None
            request.wfile.write(content[start:stop])
