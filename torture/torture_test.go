package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/leaktest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(binaryDir) // it lies in the system's temporary folder
	if left := leaktest.Wait(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines left behind:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

const (
	publishers  = 32
	subscribers = 50

	fewKills  = 5
	startLife = 150 * time.Millisecond  // of a server that is killed while it starts, at most
	shortLife = 1500 * time.Millisecond // of another one
	longLife  = 3 * time.Second         // the same where there are many kills

	// publishPause is how long a publisher waits between two requests, on average: short
	// enough for commits to have company, and long enough for 50 subscribers to keep up.
	publishPause = 20 * time.Millisecond

	// stallTime is how long nobody may get anything while somebody waits for more.
	stallTime = 20 * time.Second
)

// TestServer_LosesNothingWhenKilled kills the server at random moments: under load, while
// it starts, and while everyone comes back. Afterwards every subscriber must have got all
// that was acknowledged, each event once and in order; what else must hold, judge says.
func TestServer_LosesNothingWhenKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted on Windows")
	}
	ctx, cancel := untilDeadline(t)
	defer cancel()
	r := newRun(t)
	defer r.end(cancel)

	stopSubscribers := r.subscribe(ctx)
	r.publish(ctx)
	for i := range r.kills - 1 {
		r.round(ctx, i)
	}
	r.up(ctx)
	close(r.stop)
	r.publishing.Wait()
	r.newPublisher(theEnd).end(ctx)
	r.server.kill()
	r.server.check(ctx)
	r.up(ctx)
	r.settle(ctx, r.subscribers, stopSubscribers)
	r.audit(ctx)
	r.server.stop()
	r.server.check(ctx)
	r.report(t)
	t.Log(r.summary())
}

// TestServer_BeginsAgainWhenKilledAtFirst kills the server while it makes its directory.
func TestServer_BeginsAgainWhenKilledAtFirst(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted on Windows")
	}
	ctx, cancel := untilDeadline(t)
	defer cancel()
	seed, kills := options(t)
	rng := newRand(seed, 1)
	s := newServer(t, rng)
	parent := s.dir
	for i := range kills {
		s.dir = filepath.Join(parent, strconv.Itoa(i))
		s.start()
		pause(ctx, time.Duration(rng.Int64N(int64(startLife))))
		s.kill()
		s.up(ctx)
		s.stop()
		s.check(ctx)
		if t.Failed() {
			return
		}
	}
}

// untilDeadline returns a context that ends shortly before the test is ended, so that no
// server is left behind.
func untilDeadline(t *testing.T) (context.Context, context.CancelFunc) {
	if deadline, ok := t.Deadline(); ok {
		return context.WithDeadline(t.Context(), deadline.Add(-15*time.Second))
	}
	return context.WithCancel(t.Context())
}

// options returns the seed and the number of kills.
func options(t *testing.T) (seed uint64, kills int) {
	t.Helper()
	seed = numberFrom(t, "TIDEWIRE_TORTURE_SEED", rand.Uint64())
	kills = int(numberFrom(t, "TIDEWIRE_TORTURE_KILLS", fewKills))
	t.Logf("TIDEWIRE_TORTURE_SEED=%d", seed)
	if kills < 1 {
		t.Fatal("TIDEWIRE_TORTURE_KILLS must be 1 or more")
	}
	return seed, kills
}

func numberFrom(t *testing.T, env string, def uint64) uint64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// newRand returns what one of many draws from, so that it does not matter who is first.
func newRand(seed uint64, who int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(who))) }

// A run is one torture of one directory.
type run struct {
	*ledger
	t      *testing.T
	seed   uint64
	kills  int
	rng    *rand.Rand
	server *server
	client *http.Client

	publishers  []*publisher
	publishing  sync.WaitGroup
	stop        chan struct{} // closed when publishers are to stop
	subscribers []*subscriber
	subscribing sync.WaitGroup
	killed      []chan struct{} // closed when the server was killed so often
	starts      []time.Duration // until the server's first answer
}

func newRun(t *testing.T) *run {
	t.Helper()
	r := &run{
		ledger: &ledger{},
		t:      t,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: publishers}},
		stop:   make(chan struct{}),
	}
	r.seed, r.kills = options(t)
	r.rng = newRand(r.seed, 0)
	r.server = newServer(t, r.rng)
	for range r.kills {
		r.killed = append(r.killed, make(chan struct{}))
	}
	return r
}

// end waits for everyone.
func (r *run) end(cancel context.CancelFunc) {
	cancel()
	r.publishing.Wait()
	r.subscribing.Wait()
	r.client.CloseIdleConnections()
}

// publish starts the publishers.
func (r *run) publish(ctx context.Context) {
	for i := range int32(publishers) {
		p := r.newPublisher(i)
		r.publishers = append(r.publishers, p)
		r.publishing.Go(func() {
			switch i {
			case 0:
				p.pause /= 4 // so that often it waits for an answer when the server is killed
				p.chainByMatch(ctx)
			case 1:
				p.pause /= 4
				p.chainByKey(ctx)
			default:
				p.run(ctx)
			}
		})
	}
}

func (r *run) newPublisher(no int32) *publisher {
	return &publisher{
		no: no, ledger: r.ledger, base: r.server.url(), client: r.client, rng: newRand(r.seed, 1000+int(no)),
		pause: publishPause, stop: r.stop,
	}
}

// subscribe starts the subscribers: five of each selection, of which some begin later,
// and some drop their connections. They end when they have seen the end, or are stopped.
func (r *run) subscribe(ctx context.Context) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	for i := range subscribers {
		column, row := i%len(selections), i/len(selections)
		s := r.newSubscriber(i, selections[column])
		s.client = []client{byStream, byStream, byStream, bySource, byLines}[row]
		s.start = []start{fromEarliest, fromEarliest, fromNow, fromID, fromPosition}[(column+row)%5]
		s.drop = []int{0, 300, 0, 500, 500}[row]
		after := 0 // kills
		if s.start != fromEarliest || s.rng.IntN(4) == 0 {
			after = s.rng.IntN(r.kills)
		}
		r.subscribers = append(r.subscribers, s)
		r.subscribing.Go(func() {
			if after > 0 {
				select {
				case <-r.killed[after-1]:
				case <-ctx.Done():
				}
			}
			s.run(ctx)
		})
	}
	return stop
}

func (r *run) newSubscriber(no int, sel selection) *subscriber {
	return &subscriber{no: no, ledger: r.ledger, base: r.server.url(), http: r.client, rng: newRand(r.seed, 2000+no), selection: sel}
}

// round starts the server and kills it at a random moment.
func (r *run) round(ctx context.Context, i int) {
	r.t.Helper()
	if i%4 == 1 { // perhaps before it is there
		r.server.start()
		pause(ctx, time.Duration(r.rng.Int64N(int64(startLife))))
	} else {
		r.up(ctx)
		life := shortLife
		if r.kills > 2*fewKills {
			life = longLife
		}
		f := r.rng.Float64()
		pause(ctx, time.Duration(f*f*float64(life)))
	}
	r.server.kill()
	close(r.killed[i])
	if ctx.Err() != nil {
		r.t.Fatal("the time is up: allow more with -timeout")
	}
}

// up starts the server and waits for its first answer.
func (r *run) up(ctx context.Context) {
	r.t.Helper()
	r.starts = append(r.starts, r.server.up(ctx))
}

// settle waits until subscribers have seen the end, or nobody gets anything any more:
// then it stops them.
func (r *run) settle(ctx context.Context, subs []*subscriber, stop context.CancelFunc) {
	r.t.Helper()
	defer stop()
	done := make(chan struct{})
	go func() {
		r.subscribing.Wait()
		close(done)
	}()
	for before := int64(-1); ; {
		select {
		case <-done:
			return
		case <-ctx.Done():
			r.t.Fatal("the time is up: allow more with -timeout")
		case <-time.After(stallTime):
		}
		now := int64(0)
		for _, s := range subs {
			now += s.got.Load()
		}
		if now == before {
			r.t.Errorf("some wait for more, and nobody has got anything for %v", stallTime)
			stop()
			<-done
			return
		}
		before = now
	}
}

// audit reads the history, in all ways, and compares it with what everyone was told.
func (r *run) audit(ctx context.Context) {
	r.t.Helper()
	j := newJudge(r.ledger, r.history(ctx))
	j.judgePublishers()
	for _, s := range r.subscribers {
		j.judgeSubscriber(s)
	}
	reading, stop := context.WithCancel(ctx)
	auditors := make([]*subscriber, len(selections))
	for i, sel := range selections {
		s := r.newSubscriber(subscribers+i, sel)
		s.client = []client{byStream, byLines}[i%2]
		auditors[i] = s
		r.subscribing.Go(func() { s.run(reading) })
	}
	r.settle(ctx, auditors, stop)
	for _, s := range auditors {
		j.judgeSubscriber(s)
	}
	for i, topic := range topics {
		h, err := head(ctx, r.client, r.server.url(), topic)
		if err != nil {
			r.t.Error(err)
			continue
		}
		j.judgeHead(i, h)
	}
}

// history reads all that is kept.
func (r *run) history(ctx context.Context) (all []stored) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(stallTime, cancel)
	defer idle.Stop()
	open := selections[0].set()
	err := eachLine(ctx, r.client, r.server.url()+"/events?pattern=**&since=earliest", "", func() {}, func(l line) bool {
		idle.Reset(stallTime)
		k, own, ok := parseData(l.Data)
		if !ok {
			r.add("the history has a damaged event", "%s at %s: %s", l.ID, l.Position, firstLine([]byte(l.Data)))
			return true
		}
		all = append(all, stored{k, r.sequence(l.Position), setOf(l.Topics), own})
		if k.publisher == theEnd {
			open &^= setOf(l.Topics)
		}
		return open != 0
	})
	if err != nil {
		r.t.Errorf("the history cannot be read to its end, after %d events: %v", len(all), err)
	}
	return all
}

// summary is one line about a run.
func (r *run) summary() string {
	counts := r.counts()
	repeated, connections, delivered := 0, 0, int64(0)
	for _, p := range r.publishers {
		repeated += p.repeated
	}
	for _, s := range r.subscribers {
		connections += max(s.opened-1, 0)
		delivered += s.got.Load()
	}
	slices.Sort(r.starts)
	return fmt.Sprintf("%d kills; %d events acknowledged, %d unknown, %d refused; %d publishes repeated; %d deliveries, %d reconnections; restart %v min, %v median, %v max",
		r.kills, counts[acked], counts[unknown], counts[refused], repeated, delivered, connections,
		r.starts[0].Round(time.Millisecond), r.starts[len(r.starts)/2].Round(time.Millisecond), r.starts[len(r.starts)-1].Round(time.Millisecond))
}
