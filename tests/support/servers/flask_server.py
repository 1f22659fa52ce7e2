"""The Flask upstream of the tests: says which handler ran and what it read. flask_server.py PORT [overrides]"""

import sys

from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
app = Flask(__name__)


def ran(handler):
    body = {"handler": handler, "method": request.method, "path": request.path, "host": request.host.split(":")[0]}
    body |= {name: request.headers.get(f"x-latchkey-{name}") for name in ("user", "scopes")}
    return body, {"x-ran": handler}


def serve(prefix, handler, methods):
    """The prefix, and all below it, by these methods; every other method and path is `other`."""
    app.add_url_rule(prefix, f"{prefix} alone", lambda: ran(handler), methods=methods)
    app.add_url_rule(f"{prefix}/", f"{prefix} with a slash", lambda: ran(handler), methods=methods)
    app.add_url_rule(f"{prefix}/<path:rest>", prefix, lambda rest: ran(handler), methods=methods)


serve("/rest/admin", "admin", METHODS)
serve("/rest/pub", "pub", METHODS)
serve("/public", "public", METHODS)
serve("/write", "write", ["POST"])
serve("/report", "report", ["GET"])


@app.route("/", defaults={"rest": ""}, methods=METHODS)
@app.route("/<path:rest>", methods=METHODS)
def other(rest):
    return ran("other")


class Overrides:
    """What Flask's documentation calls "method overriding", and the same for the path, as IIS and Symfony read it."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        for name in ("HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_HTTP_METHOD", "HTTP_X_METHOD_OVERRIDE"):
            if environ.get(name, "").upper() in METHODS:
                environ["REQUEST_METHOD"] = environ[name].upper()
        for name in ("HTTP_X_ORIGINAL_URL", "HTTP_X_REWRITE_URL"):
            if environ.get(name, "").startswith("/"):
                environ["PATH_INFO"] = environ[name].split("?")[0]
        return self.app(environ, start_response)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *arguments):
        pass


application = Overrides(app) if sys.argv[2:] == ["overrides"] else app
make_server("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=Quiet).serve_forever()
