// Makes the calls of a JSON file with the client for Go, and prints one line of JSON for each result. Built with step.go.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

type call struct {
	Call, Name, Question, Command, Input string
	Argv, Inputs                         []string
	Times, Retries, Code                 int
	Backoff                              float64
	Value                                *bool
	Calls                                [][]json.RawMessage
}

var ofDriver = []string{"call", "name", "question", "command", "input", "argv", "inputs", "times", "retries", "code", "backoff", "value", "calls"}

func resultOf(text json.RawMessage) any {
	var c call
	options := Options{}
	must(json.Unmarshal(text, &c))
	must(json.Unmarshal(text, &options))
	for _, name := range ofDriver {
		delete(options, name)
	}
	var result Options
	var err error
	switch c.Call {
	case "step":
		run := Run{Inputs: c.Inputs, Retries: c.Retries, Options: options, NoValue: c.Value != nil && !*c.Value}
		run.Input = []byte(strings.Repeat(c.Input, max(c.Times, 1)))
		run.Backoff = time.Duration(c.Backoff * float64(time.Second))
		var output []byte
		var code int
		output, code, err = Step(c.Name, c.Argv, run)
		result = Options{"code": code, "output": shown(output, run.NoValue)}
	case "ask":
		var answered string
		answered, err = Ask(c.Name, c.Question, options)
		result = Options{"answer": answered}
	case "sleep":
		err = Sleep(c.Name, options)
		result = Options{"slept": true}
	case "shell":
		command := exec.Command("sh", "-c", c.Command)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		must(command.Run())
		result = Options{"code": 0}
	case "parallel":
		result = Options{"parallel": parallel(c.Calls)}
	case "exit":
		os.Exit(c.Code)
	}
	var refused *StepError
	if errors.As(err, &refused) {
		return Options{"error": refused.Code}
	}
	must(err)
	return result
}

func parallel(lists [][]json.RawMessage) [][]any {
	results := make([][]any, len(lists))
	var all sync.WaitGroup
	for number, calls := range lists {
		all.Add(1)
		go func(number int, calls []json.RawMessage) {
			defer all.Done()
			for _, call := range calls {
				results[number] = append(results[number], resultOf(call))
			}
		}(number, calls)
	}
	all.Wait()
	return results
}

func shown(output []byte, noValue bool) any {
	switch {
	case noValue:
		return nil
	case len(output) > 1_000_000:
		return Options{"length": len(output)}
	}
	return encode(output)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	var calls []json.RawMessage
	must(json.Unmarshal(text, &calls))
	for _, call := range calls {
		line, err := json.Marshal(resultOf(call))
		must(err)
		_, err = os.Stdout.Write(append(line, '\n'))
		must(err)
	}
}
