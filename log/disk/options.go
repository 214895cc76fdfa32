package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The defaults of [Options].
const (
	DefaultKeyLife    = 24 * time.Hour
	DefaultGroup      = 10_000
	DefaultEventBytes = 16 << 20
	DefaultTailBytes  = 16 << 20
	DefaultCacheBytes = 64 << 20
	DefaultWriteBytes = 32 << 20
	DefaultMinFree    = 256 << 20
)

// Options configure a [Log]; nil and zero fields mean the defaults.
type Options struct {
	// Retention says how much is kept of which topics. It may be another one each time
	// that a directory is opened. Default: everything.
	Retention hub.RetentionRules

	// MaxBytes bounds all events together, by Size; the oldest go first, whatever
	// their topics. Indexes and what is not compacted yet come on top. Default: 0, no
	// bound.
	MaxBytes int64

	// KeyLife is how long an idempotency key is remembered. Default: a day.
	KeyLife time.Duration

	// Limits are the largest group and event. Default: [DefaultGroup] events,
	// [DefaultEventBytes].
	Limits hub.Limits

	// Sync says when what is appended is put on the disk. Default: [SyncAlways].
	Sync Sync

	// MinFree is how many bytes must be free on the disk; with less, Append is refused
	// with [hub.ErrNoSpace] until there is room. It leaves room for what is written
	// beside the events. Default: [DefaultMinFree], or a twentieth of the disk if that
	// is less; negative: none.
	MinFree int64

	// TailBytes bounds the newest records that are kept in memory for Tail. Default:
	// [DefaultTailBytes].
	TailBytes int

	// CacheBytes bounds what is read from the disk and kept in memory. Default:
	// [DefaultCacheBytes].
	CacheBytes int64

	// WriteBytes is the size of a table of what was written lately. Four of them at most
	// are in memory; a writer who fills them faster than the disk takes them waits.
	// Half as much loads at less than half the speed. Default: [DefaultWriteBytes].
	WriteBytes int

	// Readers is how many reads there are at the same time; others wait, in order.
	// Default: twice GOMAXPROCS.
	Readers int

	// Logger is told of what needs an operator. Default: [slog.Default].
	Logger *slog.Logger

	// Now is the clock. Default: [time.Now].
	Now func() time.Time
}

// A Sync is a policy of when what is appended is put on the disk: [SyncAlways],
// [SyncNever], or an interval.
type Sync time.Duration

const (
	// SyncAlways answers when the disk has it: nothing that was answered is lost.
	SyncAlways Sync = 0

	// SyncNever leaves it to the operating system. The end of the process loses what
	// was answered in the last moments, and the end of the machine what was answered
	// in the last half minute or so.
	SyncNever Sync = -1
)

// ParseSync reads "always", "never", or "interval=" with a duration.
func ParseSync(s string) (Sync, error) {
	switch s {
	case "always":
		return SyncAlways, nil
	case "never":
		return SyncNever, nil
	}
	if text, ok := strings.CutPrefix(s, "interval="); ok {
		if d, err := time.ParseDuration(text); err == nil && d > 0 {
			return Sync(d), nil
		}
	}
	return 0, fmt.Errorf("sync is %q: it can be always, never, or an interval such as interval=100ms", s)
}

func (s Sync) String() string {
	switch {
	case s == SyncAlways:
		return "always"
	case s < 0:
		return "never"
	}
	return "interval=" + time.Duration(s).String()
}

func withDefaults(opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := checkRetention(o.Retention, o.MaxBytes); err != nil {
		return o, err
	}
	if o.KeyLife < 0 || o.TailBytes < 0 || o.CacheBytes < 0 || o.WriteBytes < 0 || o.Readers < 0 || o.Limits.Group < 0 || o.Limits.Bytes < 0 {
		return o, errors.New("disk: an option is negative that cannot be: 0 is its default")
	}
	set(&o.KeyLife, DefaultKeyLife)
	set(&o.Limits.Group, DefaultGroup)
	set(&o.Limits.Bytes, DefaultEventBytes)
	set(&o.TailBytes, DefaultTailBytes)
	set(&o.CacheBytes, DefaultCacheBytes)
	set(&o.WriteBytes, DefaultWriteBytes)
	set(&o.Readers, 2*runtime.GOMAXPROCS(0))
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

func checkRetention(rules hub.RetentionRules, maxBytes int64) error {
	for _, r := range rules {
		if err := hub.CheckPattern(r.Pattern); err != nil {
			return fmt.Errorf("disk: retention of %q: %w", r.Pattern, err)
		}
		if r.Age < 0 || r.Count < 0 || r.Bytes < 0 {
			return fmt.Errorf("disk: retention of %q is negative: 0 keeps everything", r.Pattern)
		}
	}
	if maxBytes < 0 {
		return errors.New("disk: the bound of all events together is negative: 0 is none")
	}
	return nil
}

func set[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
