// Durable steps of a Go program that runs as a session: a client of the protocol in docs/step-protocol.md.
//
//	version, _, err := Step("version", []string{"./next-version"}, Run{Inputs: []string{"CHANGELOG.md"}})
//	answer, err := Ask("deploy", fmt.Sprintf("Deploy %s?", version), Options{"choices": []string{"yes", "no"}})
//	_, code, err := Step("publish", []string{"./publish", string(version)}, Run{Options: Options{"if_unknown": "ask"}})
//	err = Sleep("cool-down", Options{"after_ms": 7_200_000})
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unicode/utf8"
)

const partBytes, longest = 128 << 10, 16 << 20

// Options are those of the protocol: key, timeout_ms, max_age_ms, ok, keep_failure, if_unknown and on_change of a step; key,
// choices, default and after_ms of a question; key, after_ms and until of a sleep.
type Options map[string]any

// Run says how the command of a step runs. Inputs are paths, and the first backoff is a second unless it is given.
type Run struct {
	Input   []byte
	Inputs  []string
	NoValue bool
	Retries int
	Backoff time.Duration
	Options Options
}

// StepError is the reason why a step, a question or a sleep has no result.
type StepError struct{ Code, Message string }

func (e *StepError) Error() string { return e.Message + " [" + e.Code + "]" }

// Step runs a command once. It returns its output, which is nil with NoValue, and its exit code, which is -N for signal N and 124
// for a time limit.
func Step(name string, argv []string, run Run) ([]byte, int, error) {
	if isOff() {
		output, code := run.command(argv, order{})
		return output, code, nil
	}
	o, err := connect(name)
	if err != nil {
		return nil, 0, err
	}
	defer o.Close() // It ends the command, also after an error.
	backoff := run.Backoff
	if backoff == 0 {
		backoff = time.Second
	}
	for ; ; backoff *= 2 {
		message, err := run.message(name, argv)
		if err != nil {
			return nil, 0, err
		}
		o.sendParts("input", run.Input)
		begun := o.request("step", message)
		if o.err != nil {
			return nil, 0, o.err
		}
		if replay := begun.Replay; replay != nil {
			output := []byte{}
			for len(output) < replay.ValueBytes && o.err == nil {
				output = append(output, o.receive().Part...)
			}
			return run.result(name, output, replay.ExitCode, replay.TooLong, o.err)
		}
		if begun.Run.Why != "" {
			fmt.Fprintf(os.Stderr, "step `%s` runs again: %s\n", name, begun.Run.Why)
		}
		output, code := run.command(argv, begun.Run)
		tooLong := len(output) > longest
		if !tooLong {
			o.sendParts("part", output)
		}
		end := Options{"exit_code": code, "too_long": tooLong}
		if code < 0 {
			end = Options{"signal": -code}
		}
		recorded := o.request("end", end).Recorded
		if recorded == "timed_out" {
			code = 124
		}
		if recorded != "failed" && recorded != "timed_out" || run.Retries == 0 {
			return run.result(name, output, code, tooLong && recorded == "completed", o.err)
		}
		time.Sleep(min(backoff, time.Minute))
		run.Retries--
	}
}

// Ask asks a question once, and returns the answer of any process.
func Ask(name, question string, options Options) (string, error) {
	if value, ok := options["default"].(string); ok && isOff() {
		return value, nil
	}
	answered, err := once("ask", name, Options{"question": question}, options)
	return answered.Answer.Answer, err
}

// Sleep sleeps to a wake-up time that is the same in every attempt.
func Sleep(name string, options Options) error {
	if !isOff() {
		_, err := once("sleep", name, Options{}, options)
		return err
	}
	var wait struct {
		AfterMs int64     `json:"after_ms"`
		Until   time.Time `json:"until"`
	}
	text, err := json.Marshal(options)
	if err == nil {
		err = json.Unmarshal(text, &wait)
	}
	time.Sleep(max(time.Until(wait.Until), time.Duration(wait.AfterMs)*time.Millisecond))
	return err
}

// An owner is a connection to the owner of the session. After an error it does nothing any more.
type owner struct {
	net.Conn
	lines *bufio.Reader
	err   error
}

type order struct{ Key, Run, Why string }

type answer struct {
	Run    order
	Replay *struct {
		ExitCode   int  `json:"exit_code"`
		ValueBytes int  `json:"value_bytes"`
		TooLong    bool `json:"too_long"`
	}
	Part     part
	Recorded string
	Asked    *struct{ Session, Name string }
	Answer   struct{ Answer string }
	Sleeping *struct{ Until string }
	Error    *StepError
}

func connect(name string) (*owner, error) {
	path := os.Getenv("SESSIONCTL_SOCKET")
	if path == "" || os.Getenv("SESSIONCTL_STEP_KEY") != "" || isOff() {
		return nil, &StepError{"INVALID_ARGUMENT", "`" + name + "` is outside a session, or inside a step"}
	}
	connection, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return &owner{connection, bufio.NewReader(connection), nil}, nil
}

func once(kind, name string, message, options Options) (answer, error) {
	o, err := connect(name)
	if err != nil {
		return answer{}, err
	}
	defer o.Close()
	message["version"], message["name"] = 1, name
	for option, value := range options {
		message[option] = value
	}
	answered := o.request(kind, message)
	return answered, o.err
}

func (o *owner) send(kind string, body any) {
	line, err := json.Marshal(map[string]any{kind: body})
	if err == nil && o.err == nil {
		_, err = o.Write(append(line, '\n'))
	}
	if o.err == nil {
		o.err = err
	}
}

func (o *owner) sendParts(kind string, data []byte) {
	for len(data) > 0 {
		size := min(len(data), partBytes)
		o.send(kind, encode(data[:size]))
		data = data[size:]
	}
}

func (o *owner) request(kind string, body any) answer {
	o.send(kind, body)
	return o.receive()
}

func (o *owner) receive() (message answer) {
	if o.err != nil {
		return message
	}
	line, err := o.lines.ReadBytes('\n')
	if err != nil {
		o.err = &StepError{"FENCED", "no owner"}
	} else if err := json.Unmarshal(line, &message); err != nil {
		o.err = err
	} else if message.Error != nil {
		o.err = message.Error
	} else if asked := message.Asked; asked != nil {
		fmt.Fprintf(os.Stderr, "waits for an answer: sessionctl answer %s %s VALUE\n", asked.Session, asked.Name)
		return o.receive()
	} else if message.Sleeping != nil {
		return o.receive()
	}
	return message
}

func isOff() bool { return os.Getenv("SESSIONCTL_STEPS") == "off" }

func (r Run) message(name string, argv []string) (Options, error) {
	words, inputs := []any{}, []Options{}
	for _, word := range argv {
		words = append(words, encode([]byte(word)))
	}
	for _, path := range r.Inputs {
		sum, err := digest(path)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, Options{"path": encode([]byte(path)), "digest": sum})
	}
	message := Options{"version": 1, "name": name, "argv": words, "inputs": inputs}
	message["input"], message["value"] = len(r.Input) > 0, !r.NoValue
	for option, value := range r.Options {
		message[option] = value
	}
	return message, nil
}

func (r Run) command(argv []string, run order) ([]byte, int) {
	var stdout bytes.Buffer
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(r.Input), &stdout, os.Stderr
	if r.NoValue {
		command.Stdout = os.Stdout
	}
	if run.Key != "" {
		command.Env = append(os.Environ(), "SESSIONCTL_STEP_KEY="+run.Key, "SESSIONCTL_STEP_RUN="+run.Run)
	}
	err, code := command.Run(), 126
	if state := command.ProcessState; state != nil {
		code = state.ExitCode()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = -int(status.Signal())
		}
	} else if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = 127
	}
	return stdout.Bytes(), code
}

func (r Run) result(name string, output []byte, code int, tooLong bool, err error) ([]byte, int, error) {
	switch {
	case err != nil:
		return nil, 0, err
	case tooLong:
		return nil, 0, &StepError{"LIMIT_EXCEEDED", "step `" + name + "` is done, but its output is too long: use NoValue"}
	case r.NoValue:
		return nil, code, nil
	}
	return output, code, nil
}

// digest returns a digest of the content of a file. Any one does: the owner only compares them.
func digest(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", &StepError{"INVALID_ARGUMENT", "input " + path + " is no regular file"}
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return fmt.Sprintf("sha256:%x", hash.Sum(nil)), err
}

// encode returns bytes as a value for JSON: UTF-8 is a string, and only other bytes are base64.
func encode(data []byte) any {
	if utf8.Valid(data) {
		return string(data)
	}
	return map[string][]byte{"base64": data}
}

// A part is the bytes of a string, or of {"base64": …}.
type part []byte

func (p *part) UnmarshalJSON(text []byte) error {
	var encoded struct{ Base64 []byte }
	if json.Unmarshal(text, &encoded) == nil {
		*p = encoded.Base64
		return nil
	}
	var data string
	err := json.Unmarshal(text, &data)
	*p = part(data)
	return err
}
