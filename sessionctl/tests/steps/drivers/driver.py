"""Makes the calls of a JSON file with the client for Python, and prints one line of JSON for each result."""
import base64, json, subprocess, sys, threading

from step import StepError, ask, sleep, step

def result_of(call):
    options = {key: value for key, value in call.items() if key != "call"}
    try:
        match call["call"]:
            case "step":
                if "input" in options:
                    options["input"] = options["input"].encode() * options.pop("times", 1)
                output, code = step(**options)
                return {"code": code, "output": shown(output)}
            case "ask":
                return {"answer": ask(**options)}
            case "sleep":
                sleep(**options)
                return {"slept": True}
            case "shell":
                return {"code": subprocess.call(["sh", "-c", options["command"]])}
            case "parallel":
                return {"parallel": parallel(options["calls"])}
    except StepError as error:
        return {"error": error.code}

def parallel(lists):
    results = [[] for _ in lists]
    def make(number):
        for call in lists[number]:
            results[number].append(result_of(call))
    threads = [threading.Thread(target=make, args=(number,)) for number in range(len(lists))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results

def shown(output):
    if output is None:
        return None
    if len(output) > 1_000_000:
        return {"length": len(output)}
    try:
        return output.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(output).decode()}

for call in json.load(open(sys.argv[1])):
    if call["call"] == "exit":
        sys.exit(call["code"])
    print(json.dumps(result_of(call)), flush=True)
