//go:build linux

package main

import (
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tidewire/tidewire/internal/load"
)

// The servers, as -servers calls them.
const (
	limitName    = "limit"
	naiveName    = "naive"
	nchanName    = "nchan"
	r3labsName   = "r3labs"
	goSSEName    = "go-sse"
	tidewireName = "tidewire"
	diskName     = "tidewire-disk"
)

func serverNames() []string {
	return []string{limitName, naiveName, r3labsName, goSSEName, nchanName, tidewireName, diskName}
}

// A contender is a server that is measured.
type contender struct {
	name    string
	title   string     // in tables
	peer    *load.Peer // nil: it is ours
	history bool       // it has one, so that subscribers can resume
	disk    bool       // its history is on disk: for rows that ask for it alone
	replays int        // as many events at most, for which there is a note; 0: any number
	note    string
	start   func() (*process, error)
}

//go:embed limit/limit.c
var limitSource []byte

// events is how the servers here that are not ours, and not Nchan, are spoken to.
var events = &load.Peer{Subscribe: "/events/{topic}", Publish: "/events/{topic}"}

// build builds the servers in Go.
func (b *bench) build() error {
	if b.programs != "" {
		return nil
	}
	b.say("building the servers")
	b.programs = b.dir
	cmd := exec.CommandContext(b.ctx, "go", "build", "-o", b.dir, "github.com/tidewire/tidewire/cmd/tidewire", "github.com/tidewire/tidewire/bench/fanout/server")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// prepare finds out what there is to be measured.
func (b *bench) prepare() error {
	versions, err := b.versions()
	if err != nil {
		return err
	}
	inGo := func(name, title string) *contender {
		return &contender{name: name, title: title, peer: events, history: true, start: func() (*process, error) {
			return b.launch(filepath.Join(b.programs, "server"), name)
		}}
	}
	makers := map[string]func() (*contender, error){
		limitName: b.newLimit,
		nchanName: b.newNchan,
		naiveName: func() (*contender, error) { return inGo(naiveName, "naive, net/http"), nil },
		r3labsName: func() (*contender, error) {
			return inGo(r3labsName, "r3labs/sse "+versions["github.com/r3labs/sse/v2"]), nil
		},
		goSSEName: func() (*contender, error) {
			return inGo(goSSEName, "tmaxmax/go-sse "+versions["github.com/tmaxmax/go-sse"]), nil
		},
		tidewireName: func() (*contender, error) {
			return &contender{name: tidewireName, title: "tidewire, memory", history: true, start: func() (*process, error) {
				return b.tidewire("--memory", "--retain", "**=count:200000", "--history", "1GiB")
			}}, nil
		},
		diskName: func() (*contender, error) {
			return &contender{name: diskName, title: "tidewire, disk, synced", history: true, disk: true, start: b.tidewireOnDisk}, nil
		},
	}
	for _, name := range serverNames() {
		if !slices.Contains(b.config.servers, name) {
			continue
		}
		c, err := makers[name]()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if c != nil {
			b.servers = append(b.servers, c)
		}
	}
	return nil
}

// versions returns those of the modules that the servers in Go are built of.
func (b *bench) versions() (map[string]string, error) {
	info, err := buildinfo.ReadFile(filepath.Join(b.programs, "server"))
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, m := range info.Deps {
		versions[m.Path] = m.Version
	}
	return versions, nil
}

// tidewire starts ours: the program as it is given to users, or the same in one that can
// write a profile.
func (b *bench) tidewire(args ...string) (*process, error) {
	args = append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)
	if b.profile != "" {
		return b.launch(filepath.Join(b.programs, "server"), append([]string{"tidewire"}, args...)...)
	}
	return b.launch(filepath.Join(b.programs, "tidewire"), args...)
}

// tidewireOnDisk starts one with a new directory, which is removed when it has ended.
func (b *bench) tidewireOnDisk() (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "log-*")
	if err != nil {
		return nil, err
	}
	p, err := b.tidewire("--data", dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.cleanup = func() error { return os.RemoveAll(dir) }
	return p, nil
}

// newLimit compiles the limit, or takes the one in Go.
func (b *bench) newLimit() (*contender, error) {
	c := &contender{name: limitName, peer: events}
	cc, err := exec.LookPath("cc")
	if err != nil && b.limit == "c" {
		return nil, fmt.Errorf("-limit c: there is no C compiler: %w", err)
	}
	if err != nil || b.limit == "go" {
		c.title = "limit, in Go, 1 thread"
		c.start = func() (*process, error) { return b.launch(filepath.Join(b.programs, "server"), "limit") }
		return c, nil
	}
	source := filepath.Join(b.dir, "limit.c")
	if err := os.WriteFile(source, limitSource, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(b.ctx, cc, "-O2", "-pthread", "-o", filepath.Join(b.dir, "limit"), source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc: %w\n%s", err, out)
	}
	c.title = "limit, in C, " + plural(threads(), "thread")
	c.start = func() (*process, error) { return b.launch(filepath.Join(b.dir, "limit"), strconv.Itoa(threads())) }
	return c, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// firstLine returns the first line that a program prints.
func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return filepath.Base(program) + " of unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
