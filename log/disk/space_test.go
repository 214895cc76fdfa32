package disk_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// A sizedFS is a file system whose free space is set by hand.
type sizedFS struct {
	vfs.FS
	free, total atomic.Uint64
	err         atomic.Pointer[error]
}

func (f *sizedFS) Unwrap() vfs.FS { return f.FS }

func (f *sizedFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if err := f.err.Load(); err != nil {
		return vfs.DiskUsage{}, *err
	}
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: f.total.Load()}, nil
}

// TestMinFree has the free space go to the limit, below, and back.
func TestMinFree(t *testing.T) {
	for _, tt := range []struct {
		name    string
		minFree int64
		total   uint64
		limit   uint64
	}{
		{"as set", 1000, 1 << 40, 1000},
		{"by default", 0, 1 << 40, disk.DefaultMinFree},
		{"by default, on a small disk", 0, 1000, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := &sizedFS{FS: vfs.NewMem()}
			fs.total.Store(tt.total)
			fs.free.Store(tt.limit)
			o := options(hubtest.Config{})
			o.MinFree = tt.minFree
			l := open(t, "log", o, fs)
			at := appendData(t, l, "a", "at the limit")

			fs.free.Store(tt.limit - 1)
			_, err := l.Append(t.Context(), groupOf("a", "below"))
			if !errors.Is(err, hub.ErrNoSpace) || !errors.Is(err, hub.ErrUnavailable) {
				t.Fatalf("got %v below the limit, want ErrNoSpace", err)
			}
			if got := readAll(t, l, everything); len(got) != 1 || got[0].Event.Data != "at the limit" {
				t.Errorf("got %d events below the limit, want the one before", len(got))
			}
			for records, err := range l.Tail(t.Context(), at.Sequences[0]-1) {
				if err != nil || len(records) != 1 || records[0].Event.Data != "at the limit" {
					t.Errorf("tail: got %+v, %v below the limit", records, err)
				}
				break
			}

			fs.free.Store(tt.limit)
			if r := appendData(t, l, "a", "healed"); r.Sequences[0] <= at.Sequences[0] {
				t.Errorf("got sequence %d after %d", r.Sequences[0], at.Sequences[0])
			}
		})
	}
}

// TestMinFree_CanBeOff has a disk without a free byte, and one that does not tell.
func TestMinFree_CanBeOff(t *testing.T) {
	fs := &sizedFS{FS: vfs.NewMem()}
	l := open(t, "log", options(hubtest.Config{}), fs)
	appendData(t, l, "a", "one")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fs.err.Store(&vfs.ErrUnsupported)
	o := options(hubtest.Config{})
	o.MinFree = 1 << 40
	l = open(t, "log", o, fs)
	appendData(t, l, "a", "two")
	fs.err.Store(&errFault)
	if _, err := l.Append(t.Context(), groupOf("a", "three")); !errors.Is(err, hub.ErrUnavailable) || errors.Is(err, hub.ErrNoSpace) {
		t.Errorf("got %v where the free space is not known, want ErrUnavailable", err)
	}
}

// TestMinFree_OverHTTP publishes through a hub.
func TestMinFree_OverHTTP(t *testing.T) {
	fs := &sizedFS{FS: vfs.NewMem()}
	fs.total.Store(1 << 40)
	o := options(hubtest.Config{})
	o.MinFree = 1000
	l := open(t, "log", o, fs)
	srv := httptest.NewServer(newHub(t, l))
	defer srv.Close()
	post := func(data string) (status int, problem string) {
		t.Helper()
		resp, err := http.Post(srv.URL+"/events/a", "text/plain", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Type string }
		if resp.StatusCode >= 400 {
			if err := json.Unmarshal(body, &doc); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
		}
		return resp.StatusCode, doc.Type
	}
	fs.free.Store(1000)
	if status, problem := post("one"); status != http.StatusCreated {
		t.Errorf("got %d %s at the limit", status, problem)
	}
	fs.free.Store(999)
	if status, problem := post("two"); status != http.StatusInsufficientStorage || problem != "urn:tidewire:problem:no-space" {
		t.Errorf("got %d %q, want 507 and no-space", status, problem)
	}
	fs.free.Store(1000)
	if status, problem := post("three"); status != http.StatusCreated {
		t.Errorf("got %d %s at the limit again", status, problem)
	}
	var got []string
	for _, r := range readAll(t, l, everything) {
		got = append(got, r.Event.Data)
	}
	if want := []string{"one", "three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the space test writes: more than is in memory before it is in tables, of events
// that do not compress to less than half.
const (
	spaceEvent     = 16 << 10
	spacePatience  = 5 * time.Minute
	spaceLongTimes = 4
)

// TestSpace_IsGivenBack writes far more than is kept, or removes it afterward, and waits
// until the files are about as large as what is kept. A few events come meanwhile.
func TestSpace_IsGivenBack(t *testing.T) {
	later := func(_ *testing.T, _ *disk.Log, c *clock) { c.step(2 * time.Hour) }
	forget := func(t *testing.T, l *disk.Log, _ *clock) {
		for _, topic := range []string{"t0", "t1", "t2"} { // of four
			if _, err := l.Append(t.Context(), &hub.Group{Forget: topic}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name          string
		written, kept int // MiB, in the end
		rule          hub.Retention
		max           int64
		after         func(*testing.T, *disk.Log, *clock)
	}{
		{"age", 48, 0, hub.Retention{Age: time.Hour}, 0, later},
		{"Forget", 64, 16, hub.Retention{}, 0, forget},
		{"count", 160, 40, hub.Retention{Count: 40 << 20 / spaceEvent / 4}, 0, nil},
		{"bytes", 80, 8, hub.Retention{Bytes: 8 << 20 / 4}, 0, nil},
		{"MaxBytes", 80, 8, hub.Retention{}, 8 << 20, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if raced && !long() && tt.written > 48 {
				t.Skip("it takes long with the race detector: set TIDEWIRE_LONG=1")
			}
			fs := vfs.NewMem()
			c := newClock()
			o := options(hubtest.Config{Now: c.Now, Retention: hub.RetentionRules{{Pattern: "**", Retention: tt.rule}}})
			o.MaxBytes = tt.max
			l := open(t, "log", o, fs)
			written := tt.written << 20
			if long() && tt.after == nil {
				written *= spaceLongTimes
			}
			writeNoise(t, l, written)
			most, _ := tableSizes(t, fs, "log")
			if tt.after != nil {
				tt.after(t, l, c)
			}
			limit := int64(tt.kept<<20)*3/2 + 8<<20
			began := time.Now()
			for {
				appendData(t, l, "quiet", "a few events")
				tables, logs := tableSizes(t, fs, "log")
				if l.Head().Oldest > 1 && tables <= limit {
					t.Logf("%d MB of tables and %d MB of log files, where %d MB are kept, after %v; there were %d MB", tables>>20, logs>>20, tt.kept, time.Since(began), most>>20)
					return
				}
				if time.Since(began) > spacePatience {
					t.Fatalf("got %d MB of tables (and %d MB of log files) after %v, want %d at most, as %d MB are kept", tables>>20, logs>>20, spacePatience, limit>>20, tt.kept)
				}
				time.Sleep(20 * time.Millisecond) // of an idle publisher
			}
		})
	}
}

// writeNoise appends that much data, which does not compress well, to four topics in turn.
func writeNoise(t testing.TB, l hub.Log, bytes int) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	raw := make([]byte, spaceEvent/2)
	for n := 0; bytes > 0; n++ {
		g := groupOf("")
		for range 16 {
			_, _ = random.Read(raw) // never fails
			g.Events = append(g.Events, hub.Event{Topics: []string{fmt.Sprint("t", n%4)}, Data: hex.EncodeToString(raw)})
			bytes -= spaceEvent
		}
		if _, err := l.Append(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
}

// tableSizes returns how large the files are that hold events, and the log files, which
// are used again and again.
func tableSizes(t testing.TB, fs vfs.FS, dir string) (tables, logs int64) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		switch {
		case err != nil: // it has gone meanwhile
		case strings.HasSuffix(name, ".log"):
			logs += info.Size()
		default:
			tables += info.Size()
		}
	}
	return tables, logs
}
