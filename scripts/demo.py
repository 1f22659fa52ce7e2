#!/usr/bin/env python3
"""The demo's side of the management API: what `make run` needs to know and to have made. Python's standard library only."""

import argparse
import json
import os
import pathlib
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

# A proxy of the environment has no business between this machine and itself.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(method, url, token=None, body=None):
    """Status and decoded answer of one request; status 0 where nothing answers."""
    request = urllib.request.Request(url, method=method)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    if body is not None:
        request.add_header("content-type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with OPENER.open(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"error": {"message": text.decode(errors="replace")}}
    except (OSError, ValueError):
        return 0, None


def fail(sentence):
    sys.exit(f"error: {sentence}")


def expect(wanted, what, answer):
    """The answer's body, if its status is one of those wanted."""
    status, body = answer
    if status not in wanted:
        message = (body or {}).get("error", {}).get("message", "no answer")
        fail(f"{what}: the service answered {status}: {message}")
    return body


def write_secret(path, text):
    """One line that only its owner can read; never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.replace(partial, path)


def works(management, token):
    """Whether a token still opens the management API."""
    return bool(token) and call("GET", f"{management}/api/v1/me", token)[0] == 200


def read(path):
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def admin_token(options):
    """The administrator's token: the one at hand if it works, else a first one."""
    path = options.state_dir / "admin-token"
    token = read(path)
    if works(options.management, token):
        return token
    database = f"sqlite://{options.state_dir}/latchkey.db"
    made = subprocess.run(
        [options.program, "bootstrap", "--user", "admin", "--database-url", database],
        capture_output=True, text=True, check=False,
    )
    if made.returncode != 0:
        fail(f"no administrator's token: {made.stderr.strip()}\n"
             f"If the one in {path} no longer works, start over: rm {options.state_dir}/latchkey.db* {options.state_dir}/*-token")
    write_secret(path, made.stdout.strip())
    return made.stdout.strip()


def alice_token(options, admin):
    """A token of the demo user: the one at hand if it works, else a new one."""
    path = options.state_dir / "alice-token"
    token = read(path)
    if works(options.management, token):
        return token
    users = f"{options.management}/api/v1/users"
    alice = {"name": "alice", "displayName": "Alice Example", "emailAddress": "alice@example.com", "timeZone": "Europe/Berlin"}
    expect({201, 409}, "user alice could not be made", call("POST", users, admin, alice))
    wanted = {"name": f"demo {time.strftime('%Y-%m-%d %H:%M:%S')}", "expires_in": "30d", "scopes": ["latchkey:tokens"]}
    made = expect({201}, "no token for alice", call("POST", f"{users}/alice/tokens", admin, wanted))
    write_secret(path, made["token"])
    return made["token"]


def try_gateway(options, token):
    """The demo route has to answer the demo user, or there is nothing to show. A first question may meet a cold start."""
    deadline = time.monotonic() + 10
    while True:
        status, body = call("GET", f"{options.gateway}/rest/api/2/myself", token)
        if status == 200:
            return body
        if time.monotonic() > deadline:
            fail(f"the gateway answers the demo's token {status}: {json.dumps(body)}; see envoy.log and service.log in {options.state_dir}")
        time.sleep(0.1)


def token_id(options, token):
    """The identifier of one of alice's tokens, by the characters that its hint shows."""
    url = f"{options.management}/api/v1/users/alice/tokens?limit=200"
    items = expect({200}, "alice's tokens cannot be listed", call("GET", url, token))["items"]
    return next(item["id"] for item in items if item["status"] == "active" and token.startswith(item["hint"]))


def show(options, alice_id):
    gateway, management = options.gateway, options.management
    state, program = os.path.relpath(options.state_dir), os.path.relpath(options.program)
    print(f"""
The gateway is {gateway}, the management API {management}/api/v1 (described at {management}/docs).
Try, in another terminal in this directory:

  # who am I, with a Bearer and with a Basic credential
  curl -i {gateway}/rest/api/2/myself -H "Authorization: Bearer $(cat {state}/alice-token)"
  curl -i {gateway}/rest/api/2/myself -u "alice:$(cat {state}/alice-token)"

  # a wrong token, and none
  curl -i {gateway}/rest/api/2/myself -H "Authorization: Bearer lk_wrong"
  curl -i {gateway}/rest/api/2/myself

  # alice's tokens, and one more
  curl -s {management}/api/v1/users/alice/tokens -H "Authorization: Bearer $(cat {state}/alice-token)"
  curl -s {management}/api/v1/users/alice/tokens -H "Authorization: Bearer $(cat {state}/alice-token)" \\
    -H 'Content-Type: application/json' -d '{{"name": "second", "expires_in": "1h"}}'

  # revoke the one you are using, and it is refused from then on; the next `make run` makes another
  curl -i -X DELETE {management}/api/v1/tokens/{alice_id} -H "Authorization: Bearer $(cat {state}/alice-token)"

  # the same as the administrator, without curl; `{program} --help` lists the commands
  export LATCHKEY_URL={management} LATCHKEY_TOKEN_FILE={state}/admin-token
  {program} token list --user alice
  {program} audit list --limit 10

The administrator's token is in {state}/admin-token; logs are {state}/service.log and {state}/envoy.log. Ctrl-C ends it all.
""", flush=True)


def prepare(options):
    alice = alice_token(options, admin_token(options))
    try_gateway(options, alice)
    show(options, token_id(options, alice))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ready", help="exit 0 if the URL answers 200").add_argument("url")
    commands.add_parser("secret", help="write a new random secret").add_argument("path", type=pathlib.Path)
    demo = commands.add_parser("prepare", help="make the demo's users and tokens, and print requests to try")
    demo.add_argument("--state-dir", type=pathlib.Path, required=True)
    for name in ("--program", "--gateway", "--management"):
        demo.add_argument(name, required=True)
    options = parser.parse_args()
    if options.command == "ready":
        try:
            with OPENER.open(options.url, timeout=2) as answer:
                sys.exit(0 if answer.status == 200 else 1)
        except OSError:
            sys.exit(1)
    elif options.command == "secret":
        write_secret(options.path, secrets.token_urlsafe(32))
    else:
        prepare(options)


if __name__ == "__main__":
    main()
