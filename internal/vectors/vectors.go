// Package vectors holds the conformance vectors of the event-stream format as
// data, for the tests of every decoder and client here. testdata/README.md says
// what they are.
package vectors

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tidewire/tidewire/sse"
)

//go:embed testdata/stream.jsonl
var stream []byte

// A Vector is one stream and what must come out of it.
type Vector struct {
	Name   string
	Stream []byte
	Chunks []int // sizes of the first reads; the rest is one more

	want want
}

// want is a vector as it stands in the file.
type want struct {
	Name        string          `json:"name"`
	StreamB64   string          `json:"stream_b64"`
	StreamParts [][2]any        `json:"stream_parts"` // base64 and how often it is repeated
	Chunks      json.RawMessage `json:"chunks"`
	Expect      []wantEvent     `json:"expect"`
	ExpectCount int             `json:"expect_count"` // if more than Expect, which then holds the first
	Retry       *float64        `json:"retry"`        // in milliseconds
	LastEventID string          `json:"lastEventId"`
	Level       string          `json:"level"`
}

type wantEvent struct {
	Type       string `json:"type"`
	TypeLen    int    `json:"type_len"`
	TypeSHA256 string `json:"type_sha256"`
	Data       string `json:"data"`
	DataLen    int    `json:"data_len"`
	DataSHA256 string `json:"data_sha256"`
	ID         string `json:"id"`
	IDLen      int    `json:"id_len"`
	IDSHA256   string `json:"id_sha256"`
}

// All returns every vector.
func All(tb testing.TB) []Vector {
	tb.Helper()
	var all []Vector
	for line := range bytes.Lines(stream) {
		v, err := parse(line)
		if err != nil {
			tb.Fatalf("vector %d: %v", len(all)+1, err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		tb.Fatal("no vectors")
	}
	return all
}

func parse(line []byte) (Vector, error) {
	var w want
	if err := json.Unmarshal(line, &w); err != nil {
		return Vector{}, err
	}
	v := Vector{Name: w.Name, want: w}
	parts := w.StreamParts
	if parts == nil {
		parts = [][2]any{{w.StreamB64, 1.0}}
	}
	for _, p := range parts {
		text, ok1 := p[0].(string)
		times, ok2 := p[1].(float64)
		b, err := base64.StdEncoding.DecodeString(text)
		if !ok1 || !ok2 || err != nil {
			return v, fmt.Errorf("%s: bad stream", w.Name)
		}
		v.Stream = append(v.Stream, bytes.Repeat(b, int(times))...)
	}
	switch string(w.Chunks) {
	case "null":
	case `"bytewise"`:
		for range v.Stream {
			v.Chunks = append(v.Chunks, 1)
		}
	default:
		if err := json.Unmarshal(w.Chunks, &v.Chunks); err != nil {
			return v, fmt.Errorf("%s: chunks: %w", w.Name, err)
		}
	}
	return v, nil
}

// Events returns how many events the stream has.
func (v Vector) Events() int { return max(len(v.want.Expect), v.want.ExpectCount) }

// Check compares what came out of a decoder or client with what must: the events,
// the reconnection time at the end (-1 if none was set) and the last event id.
func (v Vector) Check(got []sse.Event, retry time.Duration, lastEventID string) error {
	if len(got) != v.Events() {
		return fmt.Errorf("got %d events, want %d: %.300q", len(got), v.Events(), fmt.Sprint(got))
	}
	for i, ev := range got {
		// Where the file lists only the first of many, all are alike.
		if err := v.want.Expect[min(i, len(v.want.Expect)-1)].check(ev); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
	}
	if err := v.checkRetry(retry); err != nil {
		return err
	}
	if lastEventID != v.want.LastEventID {
		return fmt.Errorf("got last event id %.100q, want %.100q", lastEventID, v.want.LastEventID)
	}
	return nil
}

func (v Vector) checkRetry(got time.Duration) error {
	if v.want.Retry == nil {
		if got != -1 {
			return fmt.Errorf("got retry %v, want none", got)
		}
		return nil
	}
	// What no Duration can hold may be capped: the note of retry/int64-max.
	const most = math.MaxInt64 / int64(time.Millisecond)
	want := time.Duration(min(int64(min(*v.want.Retry, 1e18)), most)) * time.Millisecond
	if got != want {
		return fmt.Errorf("got retry %v, want %v", got, want)
	}
	return nil
}

func (w wantEvent) check(ev sse.Event) error {
	if err := same("type", ev.Type, w.Type, w.TypeLen, w.TypeSHA256); err != nil {
		return err
	}
	if err := same("data", ev.Data, w.Data, w.DataLen, w.DataSHA256); err != nil {
		return err
	}
	return same("id", ev.ID, w.ID, w.IDLen, w.IDSHA256)
}

// same compares one value, by length and hash where the file has no more.
func same(field, got, want string, wantLen int, wantSHA256 string) error {
	if wantSHA256 == "" {
		if got != want {
			return fmt.Errorf("got %s %.200q, want %.200q", field, got, want)
		}
		return nil
	}
	sum := sha256.Sum256([]byte(got))
	if len([]rune(got)) != wantLen && len(got) != wantLen || hex.EncodeToString(sum[:]) != wantSHA256 {
		return fmt.Errorf("got %s of %d bytes with SHA-256 %x, want %d and %s", field, len(got), sum, wantLen, wantSHA256)
	}
	return nil
}
