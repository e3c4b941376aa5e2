"""Durable steps of a Python script that runs as a session: a client of the protocol in docs/step-protocol.md.

    version, _ = step("version", ["./next-version"])
    step("publish", ["./publish", version], if_unknown="fail")
"""
import base64, json, os, socket, subprocess, time

PART, LONGEST = 128 * 1024, 16 * 1024 * 1024

class StepError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{message} [{code}]")
        self.code = code

def step(name, argv, retries=0, backoff=1.0, input=b"", value=True, **options):
    """Runs a command once. Returns its output, or None without `value`, and its exit code, which is -N for signal N and
    124 for a time limit. `options`: key, timeout_ms, ok, keep_failure, if_unknown and on_change, as in the protocol."""
    if not os.environ.get("SESSIONCTL_SOCKET") or os.environ.get("SESSIONCTL_STEP_KEY"):
        raise StepError("INVALID_ARGUMENT", f"step `{name}` is outside a session, or inside another step")
    message = {"version": 1, "name": name, "argv": [encode(word) for word in argv], "input": bool(input), "value": value}
    with socket.socket(socket.AF_UNIX) as connection:  # Closing it ends the command, also after an exception.
        connection.connect(os.environ["SESSIONCTL_SOCKET"])
        lines = connection.makefile("rb")
        def send(kind, body):
            connection.sendall(json.dumps({kind: body}).encode() + b"\n")
        def receive():
            (kind, body), = json.loads(lines.readline() or '{"error":{"code":"FENCED","message":"no owner"}}').items()
            if kind == "error":
                raise StepError(**body)
            return kind, body
        while True:
            for part in parts(input):
                send("input", part)
            send("step", message | options)
            kind, body = receive()
            if kind == "replay":
                output = b""
                while len(output) < body.get("value_bytes", 0):
                    output += decode(receive()[1])
                return check_length(name, output if value else None, body.get("too_long")), body["exit_code"]
            environment = os.environ | {"SESSIONCTL_STEP_KEY": body["key"], "SESSIONCTL_STEP_RUN": body["run"]}
            try:
                stdout = subprocess.PIPE if value else None
                done = subprocess.run(argv, input=input, stdout=stdout, env=environment)
                output, code = done.stdout, done.returncode
            except OSError as error:
                output, code = b"" if value else None, 127 if isinstance(error, FileNotFoundError) else 126
            too_long = len(output or b"") > LONGEST
            for part in parts(b"" if too_long else output or b""):
                send("part", part)
            send("end", {"signal" if code < 0 else "exit_code": abs(code), "too_long": too_long})
            recorded = receive()[1]
            if recorded not in ("failed", "timed_out") or retries == 0:
                output = check_length(name, output, too_long and recorded == "completed")
                return output, 124 if recorded == "timed_out" else code
            time.sleep(min(backoff, 60))
            retries, backoff = retries - 1, backoff * 2

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
