"""Durable steps of a Python script that runs as a session: a client of the protocol in docs/step-protocol.md.

    version, _ = step("version", ["./next-version"], inputs=["CHANGELOG.md"])
    if ask("deploy", f"Deploy {version.decode().strip()}?", choices=["yes", "no"]) == "yes":
        step("publish", ["./publish", version], if_unknown="ask")
    sleep("cool-down", after_ms=7_200_000)
"""
import base64, datetime, hashlib, json, os, socket, subprocess, sys, time

PART, LONGEST = 128 * 1024, 16 * 1024 * 1024

class StepError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{message} [{code}]")
        self.code = code

def step(name, argv, retries=0, backoff=1.0, input=b"", inputs=(), value=True, **options):
    """Runs a command once. Returns its output, or None without `value`, and its exit code, which is -N for signal N and 124 for
    a time limit. `inputs` are paths. `options`: key, timeout_ms, max_age_ms, ok, keep_failure, if_unknown and on_change, as in
    the protocol."""
    if is_off():
        return run(argv, input, value, {})
    message = {"version": 1, "name": name, "argv": [encode(word) for word in argv], "input": bool(input), "value": value}
    with Owner(name) as owner:  # Closing the connection ends the command, also after an exception.
        while True:
            message["inputs"] = [{"path": encode(path), "digest": digest(path)} for path in inputs]
            for part in parts(input):
                owner.send("input", part)
            kind, body = owner.request("step", message | options)
            if kind == "replay":
                output = b""
                while len(output) < body.get("value_bytes", 0):
                    output += decode(owner.receive()[1])
                return check_length(name, output if value else None, body.get("too_long")), body["exit_code"]
            if "why" in body:
                print(f"step `{name}` runs again: {body['why']}", file=sys.stderr)
            variables = {"SESSIONCTL_STEP_KEY": body["key"], "SESSIONCTL_STEP_RUN": body["run"]}
            output, code = run(argv, input, value, variables)
            too_long = len(output or b"") > LONGEST
            for part in parts(b"" if too_long else output or b""):
                owner.send("part", part)
            end = {"signal" if code < 0 else "exit_code": abs(code), "too_long": too_long}
            recorded = owner.request("end", end)[1]
            if recorded not in ("failed", "timed_out") or retries == 0:
                output = check_length(name, output, too_long and recorded == "completed")
                return output, 124 if recorded == "timed_out" else code
            time.sleep(min(backoff, 60))
            retries, backoff = retries - 1, backoff * 2

def ask(name, question, **options):
    """Asks a question once, and returns the answer of any process. `options`: key, choices, default and after_ms."""
    if is_off() and options.get("default") is not None:
        return options["default"]
    with Owner(name) as owner:
        return owner.request("ask", {"version": 1, "name": name, "question": question} | options)[1]["answer"]

def sleep(name, **options):
    """Sleeps to a wake-up time that is the same in every attempt. `options`: after_ms or until, and key."""
    if is_off():
        until = datetime.datetime.fromisoformat(options["until"][:-1] + "+00:00").timestamp() if options.get("until") else None
        return time.sleep(options["after_ms"] / 1000 if until is None else max(0, until - time.time()))
    with Owner(name) as owner:
        owner.request("sleep", {"version": 1, "name": name} | options)

class Owner(socket.socket):
    """A connection to the owner of the session."""
    def __init__(self, name):
        if not os.environ.get("SESSIONCTL_SOCKET") or os.environ.get("SESSIONCTL_STEP_KEY") or is_off():
            raise StepError("INVALID_ARGUMENT", f"`{name}` is outside a session, or inside a step")
        super().__init__(socket.AF_UNIX)
        self.connect(os.environ["SESSIONCTL_SOCKET"])
        self.lines = self.makefile("rb")

    def send(self, kind, body):
        self.sendall(json.dumps({kind: body}).encode() + b"\n")

    def request(self, kind, body):
        self.send(kind, body)
        return self.receive()

    def receive(self):
        (kind, body), = json.loads(self.lines.readline() or '{"error":{"code":"FENCED","message":"no owner"}}').items()
        if kind == "error":
            raise StepError(body["code"], body["message"])
        if kind == "asked":
            print(f"waits for an answer: sessionctl answer {body['session']} {body['name']} VALUE", file=sys.stderr)
        return self.receive() if kind in ("asked", "sleeping") else (kind, body)

def is_off():
    return os.environ.get("SESSIONCTL_STEPS") == "off"

def run(argv, input, value, variables):
    try:
        stdout = subprocess.PIPE if value else None
        done = subprocess.run(argv, input=input, stdout=stdout, env=os.environ | variables)
        return done.stdout, done.returncode
    except OSError as error:
        return b"" if value else None, 127 if isinstance(error, FileNotFoundError) else 126

def digest(path):  # Any digest of the content does: the owner only compares them.
    if not os.path.isfile(path):
        raise StepError("INVALID_ARGUMENT", f"input {path!r} is no regular file")
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(PART):
            sha256.update(block)
    return f"sha256:{sha256.hexdigest()}"

def check_length(name, output, too_long):
    if too_long:
        raise StepError("LIMIT_EXCEEDED", f"step `{name}` is done, but its output is too long: use value=False")
    return output

def parts(data):
    return (encode(data[at : at + PART]) for at in range(0, len(data), PART))

def encode(data):  # UTF-8 is a string, and only other bytes are base64.
    try:
        return os.fsencode(data).decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(os.fsencode(data)).decode()}

def decode(part):
    return part.encode() if isinstance(part, str) else base64.b64decode(part["base64"])
