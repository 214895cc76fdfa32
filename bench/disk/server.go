//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// build builds the programs under test.
func (b *bench) build() error {
	b.say("building the server")
	b.server, b.bare = filepath.Join(b.dir, "tidewire"), filepath.Join(b.dir, "server")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-o", b.dir,
		"github.com/tidewire/tidewire/cmd/tidewire", "github.com/tidewire/tidewire/bench/disk/server")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// A process is a server that runs.
type process struct {
	cmd     *exec.Cmd
	address netip.AddrPort
	took    time.Duration // from the start of the process to its first answer
	output  bytes.Buffer  // what it says beside its first lines
	drained sync.WaitGroup
	once    sync.Once
	err     error
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// serve starts a server on a directory. name is that of its profile, if there is to be
// one.
func (b *bench) serve(name, dir string, args ...string) (*process, error) {
	args = append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)
	if dir != "" {
		args = append(args, "--data", dir)
	}
	return b.launch(name, b.server, args...)
}

func (b *bench) launch(name, program string, args ...string) (*process, error) {
	p := &process{}
	if b.profile != "" {
		program = b.bare
	}
	p.cmd = exec.CommandContext(b.ctx, program, args...)
	if b.profile != "" {
		p.cmd.Env = append(os.Environ(), "TIDEWIRE_CPU_PROFILE="+filepath.Join(b.profile, profileName(name)))
	}
	p.cmd.Dir = b.dir
	p.cmd.Stderr = &p.output
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	lines := bufio.NewReader(stdout)
	if err := p.listens(lines); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	p.drained.Go(func() { _, _ = io.Copy(io.Discard, lines) })
	if !p.isBare() {
		if _, err := p.head(topicNames[0]); err != nil {
			return nil, errors.Join(err, p.kill())
		}
	}
	p.took = time.Since(begun)
	return p, nil
}

func (p *process) isBare() bool { return p.cmd.Args[1] == "bare" }

// listens reads where the server does.
func (p *process) listens(lines *bufio.Reader) error {
	line, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server has not started: %w", err)
	}
	_, rest, _ := strings.Cut(line, "http://")
	p.address, err = netip.ParseAddrPort(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "/")))
	if err != nil {
		return fmt.Errorf("the server says %q: %w", line, err)
	}
	return nil
}

// beginProfile has the server write a profile from now on, if there is to be one.
func (b *bench) beginProfile(p *process) error {
	if b.profile == "" {
		return nil
	}
	return p.cmd.Process.Signal(syscall.SIGUSR1)
}

// stop ends the server in an orderly way.
func (p *process) stop() error {
	p.once.Do(func() {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			p.err = err
		}
		late := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
		defer late.Stop()
		p.drained.Wait()
		if err := p.cmd.Wait(); err != nil {
			p.err = fmt.Errorf("the server ended with %w: %s", err, bytes.TrimSpace(p.output.Bytes()))
		}
	})
	return p.err
}

// kill ends it with kill -9.
func (p *process) kill() error {
	p.once.Do(func() {
		p.err = p.cmd.Process.Kill()
		p.drained.Wait()
		_ = p.cmd.Wait() // killed is what it was to be
		if p.err == nil && p.output.Len() > 0 {
			p.err = fmt.Errorf("the server says: %s", bytes.TrimSpace(p.output.Bytes()))
		}
	})
	return p.err
}

func (p *process) url(path string) string { return "http://" + p.address.String() + path }

func (p *process) do(method, path, body string) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url(path), strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, got)
	}
	return resp, got, err
}

// A topicState is what a HEAD says.
type topicState struct {
	count  int
	newest string
}

func (p *process) head(topic string) (topicState, error) {
	resp, _, err := p.do(http.MethodHead, "/events/"+topic, "")
	if err != nil {
		return topicState{}, err
	}
	n, err := strconv.Atoi(resp.Header.Get("Tidewire-Count"))
	if err != nil {
		return topicState{}, fmt.Errorf("HEAD %s: Tidewire-Count: %w", topic, err)
	}
	return topicState{n, resp.Header.Get("Tidewire-Newest-Id")}, nil
}

// count returns how many events all topics have.
func (p *process) count() (int, error) {
	all := 0
	for _, name := range topicNames {
		s, err := p.head(name)
		if err != nil {
			return 0, err
		}
		all += s.count
	}
	return all, nil
}

// mark publishes an event, and returns its position.
func (p *process) mark() (string, error) {
	_, body, err := p.do(http.MethodPost, "/events/marks", "mark")
	if err != nil {
		return "", err
	}
	var receipt struct {
		Position string `json:"position"`
	}
	if err := json.Unmarshal(body, &receipt); err != nil {
		return "", fmt.Errorf("the answer to a publish: %w", err)
	}
	return receipt.Position, nil
}
