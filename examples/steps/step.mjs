// Durable steps of a Node script that runs as a session: a client of the protocol in docs/step-protocol.md.
//
//     const { output } = await step("version", ["./next-version"], { inputs: ["CHANGELOG.md"] })
//     if ((await ask("deploy", `Deploy ${output}?`, { choices: ["yes", "no"] })) === "yes")
//       await step("publish", ["./publish", `${output}`], { if_unknown: "ask" })
//     await sleep("cool-down", { after_ms: 7_200_000 })
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { readFile, stat } from "node:fs/promises"
import { connect } from "node:net"
import { constants } from "node:os"
import { setTimeout as wait } from "node:timers/promises"

const PART = 128 * 1024, LONGEST = 16 * 1024 * 1024, { env } = process
const isOff = () => env.SESSIONCTL_STEPS === "off"

export class StepError extends Error {
  constructor(code, message) { super(`${message} [${code}]`); this.code = code }
}

/** Runs a command once. Resolves to its `output`, which is null without `value`, and its exit `code`, which is -N for signal N
 *  and 124 for a time limit. `inputs` are paths. Other options: key, timeout_ms, max_age_ms, ok, keep_failure, if_unknown and
 *  on_change, as in the protocol. */
export async function step(name, argv, { retries = 0, backoff = 1, input = "", inputs = [], value = true, ...options } = {}) {
  if (isOff()) return run(argv, input, value, {})
  return withOwner(name, async (send, receive) => {
    for (; ; retries--, backoff *= 2) {
      const files = await Promise.all(inputs.map(digest))
      for (const part of parts(input)) send("input", part)
      send("step", { version: 1, name, argv: argv.map(encode), input: input.length > 0, value, inputs: files, ...options })
      const { replay, run: order } = await receive()
      if (replay) {
        const chunks = []
        for (let left = replay.value_bytes ?? 0; left > 0; left -= chunks.at(-1).length) chunks.push(decode((await receive()).part))
        return { output: checkLength(name, value ? Buffer.concat(chunks) : null, replay.too_long), code: replay.exit_code }
      }
      if (order.why) console.error(`step \`${name}\` runs again: ${order.why}`)
      const { output, code } = await run(argv, input, value, { SESSIONCTL_STEP_KEY: order.key, SESSIONCTL_STEP_RUN: order.run })
      const too_long = output?.length > LONGEST
      for (const part of parts(too_long || !output ? "" : output)) send("part", part)
      send("end", { [code < 0 ? "signal" : "exit_code"]: Math.abs(code), too_long })
      const { recorded } = await receive()
      if (!["failed", "timed_out"].includes(recorded) || retries === 0)
        return { output: checkLength(name, output, too_long && recorded === "completed"), code: recorded === "timed_out" ? 124 : code }
      await wait(Math.min(backoff, 60) * 1000)
    }
  })
}

/** Asks a question once, and resolves to the answer of any process. Options: key, choices, default and after_ms. */
export async function ask(name, question, options = {}) {
  if (isOff() && options.default != null) return options.default
  return withOwner(name, async (send, receive) => {
    send("ask", { version: 1, name, question, ...options })
    return (await receive()).answer.answer
  })
}

/** Sleeps to a wake-up time that is the same in every attempt. Options: after_ms or until, and key. */
export async function sleep(name, options) {
  if (isOff()) return wait(options.after_ms ?? Math.max(0, Date.parse(options.until) - Date.now()))
  return withOwner(name, async (send, receive) => {
    send("sleep", { version: 1, name, ...options })
    await receive()
  })
}

/** Calls `work` with a connection to the owner. Closing it ends the command, also after an exception. */
async function withOwner(name, work) {
  if (!env.SESSIONCTL_SOCKET || env.SESSIONCTL_STEP_KEY || isOff())
    throw new StepError("INVALID_ARGUMENT", `\`${name}\` is outside a session, or inside a step`)
  const socket = connect(env.SESSIONCTL_SOCKET).on("error", () => {}) // `receive` throws.
  const messages = messagesOf(socket)
  const receive = async () => {
    const { value: message = { error: { code: "FENCED", message: "no owner" } } } = await messages.next().catch(() => ({}))
    const { error, asked, sleeping } = message
    if (error) throw new StepError(error.code, error.message)
    if (asked) console.error(`waits for an answer: sessionctl answer ${asked.session} ${asked.name} VALUE`)
    return asked || sleeping ? receive() : message
  }
  try {
    return await work((kind, body) => socket.write(JSON.stringify({ [kind]: body }) + "\n"), receive)
  } finally {
    socket.destroy()
  }
}

async function* messagesOf(socket) { // Not by `readline`: to it, U+2028 ends a line.
  let rest = Buffer.alloc(0)
  for await (const chunk of socket) {
    rest = Buffer.concat([rest, chunk])
    for (let end; (end = rest.indexOf("\n")) >= 0; rest = rest.subarray(end + 1)) yield JSON.parse(rest.subarray(0, end))
  }
}

function run([program, ...words], input, value, variables) {
  const started = new Promise((resolve, reject) => {
    const stdio = ["pipe", value ? "pipe" : "inherit", "inherit"]
    const command = spawn(program, words, { stdio, env: { ...env, ...variables } }).on("error", reject)
    const chunks = []
    command.stdout?.on("data", (chunk) => chunks.push(chunk))
    command.stdin.on("error", () => {}).end(input) // A command need not read its input.
    command.on("close", (code, signal) =>
      resolve({ output: value ? Buffer.concat(chunks) : null, code: signal ? -constants.signals[signal] : code }))
  })
  return started.catch((error) => ({ output: value ? Buffer.alloc(0) : null, code: error.code === "ENOENT" ? 127 : 126 }))
}

async function digest(path) { // Any digest of the content does: the owner only compares them.
  const isFile = await stat(path).then((file) => file.isFile(), () => false)
  if (!isFile) throw new StepError("INVALID_ARGUMENT", `input ${path} is no regular file`)
  return { path: encode(path), digest: "sha256:" + createHash("sha256").update(await readFile(path)).digest("hex") }
}

function checkLength(name, output, too_long) {
  if (too_long) throw new StepError("LIMIT_EXCEEDED", `step \`${name}\` is done, but its output is too long: use value: false`)
  return output
}

function* parts(data) {
  const bytes = Buffer.from(data)
  for (let at = 0; at < bytes.length; at += PART) yield encode(bytes.subarray(at, at + PART))
}

function encode(data) { // UTF-8 is a string, and only other bytes are base64.
  const bytes = Buffer.from(data)
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : { base64: bytes.toString("base64") }
}

const decode = (part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part.base64, "base64"))
