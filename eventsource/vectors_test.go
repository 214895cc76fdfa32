package eventsource_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/vectors"
	"github.com/tidewire/tidewire/sse"
)

// TestStream_Vectors plays every conformance vector to the whole client over a
// socket, and reads the reconnection time and the id off the reconnection.
func TestStream_Vectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.All(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, playVector(v), stop)

			// No server can ask for this time, so it says that none did.
			const none = 77*time.Millisecond + 7
			var again eventsource.Attempt // the second one
			seq := eventsource.Stream(bounded(t), srv.URL, &eventsource.Options{
				ReconnectionTime: none,
				NewRequest: func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
					again = a
					return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
				},
				// Vectors ask for up to 2^64 ms.
				Retry: func(a eventsource.Attempt, _ time.Duration, ok bool) (time.Duration, bool) {
					again = a
					return 0, ok
				},
			})
			msgs, err := collect(t, seq)

			var got []sse.Event
			for _, m := range msgs {
				m.Retry = 0 // vectors tell the last one only
				got = append(got, m.Event)
			}
			retry := lastRetry(v)
			if err := v.Check(got, retry, again.LastEventID); err != nil {
				t.Error(err)
			}
			want := none
			if retry >= 0 {
				want = min(max(retry, 10*time.Millisecond), 24*time.Hour)
			}
			if again.ReconnectionTime != want {
				t.Errorf("got reconnection time %v, want %v", again.ReconnectionTime, want)
			}
			checkIDOnTheWire(t, srv, again.LastEventID, err)
		})
	}
}

// checkIDOnTheWire checks what the reconnection sent for the last event id, and
// how the stream ended.
func checkIDOnTheWire(t *testing.T, srv *server, id string, err error) {
	t.Helper()
	// No header can carry a control character other than tab: the client must
	// say so, and not resume from somewhere else.
	if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }) {
		if err == nil || !strings.Contains(err.Error(), "cannot resume after id") {
			t.Errorf("got error %v for the id %q, want one that tells of it", err, id)
		}
		srv.wantCalls(t, 1)
		return
	}
	if err != nil {
		t.Errorf("got error %v, want none after a 204", err)
	}
	got, ok := srv.wantCalls(t, 2)[1].id()
	if ok != (id != "") {
		t.Errorf("got a Last-Event-ID header: %t, want %t for the id %q", ok, id != "", id)
	}
	if want := strings.Trim(id, " \t"); got != want { // HTTP does this
		t.Errorf("got Last-Event-ID %q, want %q", got, want)
	}
}

// playVector answers with a vector's stream in the vector's chunks.
func playVector(v vectors.Vector) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		begin(w, "")
		rest := v.Stream
		for _, n := range v.Chunks {
			n = min(n, len(rest)) // some vectors' sizes are larger than the rest
			w.Write(rest[:n])
			w.(http.Flusher).Flush()
			rest = rest[n:]
		}
		w.Write(rest)
	}
}

// lastRetry returns the reconnection time that a vector's stream sets as it stands
// there, which the client only shows within its bounds; -1 if none.
func lastRetry(v vectors.Vector) time.Duration {
	retry := time.Duration(-1)
	d := sse.NewDecoder(bytes.NewReader(v.Stream), &sse.DecoderOptions{OnRetry: func(t time.Duration) { retry = t }})
	for {
		if _, err := d.Next(); err == io.EOF || err == io.ErrUnexpectedEOF {
			return retry
		}
	}
}
