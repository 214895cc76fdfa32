//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is a server that runs.
type process struct {
	cmd     *exec.Cmd
	address netip.AddrPort
	profile bool          // it begins one at SIGUSR1
	cleanup func() error  // after its end; nil: nothing
	said    output        // on standard error
	done    chan struct{} // it has ended
	err     error         // how; read when done
	once    sync.Once
	stopped error
}

// An output is what a process writes, of which the beginning is kept.
type output struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

const maxOutput = 4 << 10

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept.Write(b[:min(len(b), maxOutput-o.kept.Len())])
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.kept.String())
}

// profileFile is where a server writes its profile.
func (b *bench) profileFile() string { return filepath.Join(b.dir, "cpu.profile") }

// launch starts a server that says itself where it listens.
func (b *bench) launch(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(b.ctx, program, args...)}
	p.cmd.Dir = b.dir
	if b.profile != "" && filepath.Base(program) == "server" {
		p.profile = true
		p.cmd.Env = append(os.Environ(), "TIDEWIRE_CPU_PROFILE="+b.profileFile())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	err = errors.Join(p.begin(w), w.Close())
	lines := bufio.NewReader(r)
	if err == nil {
		if err = p.listens(lines); err != nil {
			err = errors.Join(err, p.stop())
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines) // up to its end, which is p's
		_ = r.Close()
	}()
	return p, nil
}

// begin starts it, and waits for its end.
func (p *process) begin(stdout *os.File) error {
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.Stderr = &p.said
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) } // nginx has children
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(p.cmd.Path), err)
	}
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return nil
}

// listens reads where the server does.
func (p *process) listens(lines *bufio.Reader) error {
	line, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s has not started: %w", filepath.Base(p.cmd.Path), err)
	}
	_, rest, _ := strings.Cut(line, "http://")
	p.address, err = netip.ParseAddrPort(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "/")))
	if err != nil {
		return fmt.Errorf("%s says %q: %w", filepath.Base(p.cmd.Path), line, err)
	}
	return nil
}

func (p *process) url() *url.URL { return &url.URL{Scheme: "http", Host: p.address.String()} }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// beginProfile has the server write a profile from now on, if it can.
func (p *process) beginProfile() {
	if p.profile {
		_ = p.cmd.Process.Signal(syscall.SIGUSR1) // if it has ended, that is told later
	}
}

// stop ends the server, and reports it if it had ended before, or does not end.
func (p *process) stop() error {
	p.once.Do(func() {
		early := p.ended()
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // if it has not
		late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		<-p.done
		if slow := !late.Stop(); early || slow {
			p.stopped = fmt.Errorf("%s ended by itself, or had to be killed: %v: %s", filepath.Base(p.cmd.Path), p.err, p.said.String())
		}
		if p.cleanup != nil {
			p.stopped = errors.Join(p.stopped, p.cleanup())
		}
	})
	return p.stopped
}
