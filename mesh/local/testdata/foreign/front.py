"""A small front end: answers with the first line of each upstream's page."""
import http.server
import os
import socketserver
import sys
import urllib.request


class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ready"
        if self.path != "/ready":
            pages = [urllib.request.urlopen("http://" + os.environ[name] + "/", timeout=10) for name in "ABC"]
            body = b"".join(page.read().splitlines()[0] + b"\n" for page in pages)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Front).serve_forever()
