// Makes the calls of a JSON file with the client for Node, and prints one line of JSON for each result.
import { spawn } from "node:child_process"
import { readFileSync, writeSync } from "node:fs"

import { StepError, ask, sleep, step } from "../../../../examples/steps/step.mjs"

async function resultOf({ call, name, argv, question, command, calls, times, ...options }) {
  try {
    switch (call) {
      case "step": {
        if (options.input !== undefined) options.input = options.input.repeat(times ?? 1)
        const { output, code } = await step(name, argv, options)
        return { code, output: shown(output) }
      }
      case "ask":
        return { answer: await ask(name, question, options) }
      case "sleep":
        await sleep(name, options)
        return { slept: true }
      case "shell":
        return { code: await shell(command) }
      case "parallel":
        return { parallel: await Promise.all(calls.map(inOrder)) }
    }
  } catch (error) {
    if (!(error instanceof StepError)) throw error
    return { error: error.code }
  }
}

async function inOrder(calls) {
  const results = []
  for (const call of calls) results.push(await resultOf(call))
  return results
}

function shell(command) {
  return new Promise((resolve) => spawn("sh", ["-c", command], { stdio: "inherit" }).on("close", resolve))
}

function shown(output) {
  if (output === null) return null
  if (output.length > 1_000_000) return { length: output.length }
  const text = output.toString()
  return Buffer.from(text).equals(output) ? text : { base64: output.toString("base64") }
}

for (const call of JSON.parse(readFileSync(process.argv[2]))) {
  if (call.call === "exit") process.exit(call.code)
  writeSync(1, JSON.stringify(await resultOf(call)) + "\n")
}
