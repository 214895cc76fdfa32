package disk

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/tables"
)

// rowIdentity is of the directory; see identity.go. All other rows are those of package
// tables.
var rowIdentity = []byte("s identity")

// skippedAfterCrash is how many sequences are left unused after a crash: more than a
// damaged end of the write-ahead log can have had, so that a sequence which somebody may
// have seen is never given to another event.
const skippedAfterCrash = 1 << 20

// A store is a directory that is open.
type store struct {
	dir    string
	fs     vfs.FS
	db     *pebble.DB
	tables *tables.Tables
	guard  *guard
	trouble
}

// trouble is told of what Pebble cannot go on after.
type trouble struct {
	log     *slog.Logger
	fatal   atomic.Pointer[error]
	running atomic.Bool  // Open has come back
	stuck   atomic.Bool  // Pebble can do nothing but read
	told    atomic.Int64 // when of a background error
}

var _ pebble.Logger = (*trouble)(nil)

// Infof implements [pebble.Logger]: it is about compactions and the like.
func (t *trouble) Infof(string, ...any) {}

// Errorf implements [pebble.Logger].
func (t *trouble) Errorf(format string, args ...any) { t.log.Warn(fmt.Sprintf(format, args...)) }

// Fatalf implements [pebble.Logger]. Pebble would have the process end. Here whoever
// commits looks for it before anything is answered, nothing is committed any more, and
// reading goes on. Where the list of files cannot be written, Pebble would go on with a
// wrong one, and is stopped for good.
func (t *trouble) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = fmt.Errorf("%s: %w", strings.TrimSuffix(fmt.Sprintf(format, args...), ": "+cause.Error()), cause)
		}
	}
	t.fatal.CompareAndSwap(nil, &err)
	if t.running.Load() && strings.HasPrefix(format, "MANIFEST") {
		t.stuck.Store(true)
		t.log.Error("disk log: it cannot be written: publishing is refused, subscribers go on; look at the disk, and start again", "error", err)
		select {} // with Pebble's lock held
	}
}

// backgroundError is told of what Pebble tries again, very often.
func (t *trouble) backgroundError(err error) {
	now := time.Now().UnixNano()
	if last := t.told.Load(); now-last > int64(10*time.Second) && t.told.CompareAndSwap(last, now) {
		t.log.Error("disk log: files cannot be written, and are tried again", "error", err)
	}
}

// broken returns what the store cannot go on after, nil if it can.
func (t *trouble) broken() error {
	if err := t.fatal.Load(); err != nil {
		return *err
	}
	return nil
}

// engineOptions are Pebble's.
func engineOptions(fs vfs.FS, o *Options, log *trouble, manifestChanged func()) *pebble.Options {
	p := &pebble.Options{
		FS:     fs,
		Logger: log,
		EventListener: &pebble.EventListener{
			BackgroundError: log.backgroundError,
			FlushEnd:        func(pebble.FlushInfo) { manifestChanged() },
			CompactionEnd:   func(pebble.CompactionInfo) { manifestChanged() },
			ManifestCreated: func(pebble.ManifestCreateInfo) { manifestChanged() },
			DataCorruption:  func(i pebble.DataCorruptionInfo) { log.backgroundError(i.Details) },
		},
		CacheSize:                   o.CacheBytes + 2*int64(o.WriteBytes), // which are taken from it
		FormatMajorVersion:          pebble.FormatTableFormatV6,           // has FormatWALSyncChunks
		MemTableSize:                uint64(o.WriteBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               128 << 20,
		MaxOpenFiles:                1000,
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

// openStore opens a directory, or makes it.
func openStore(dir string, fs vfs.FS, o *Options) (*store, error) {
	s := &store{dir: dir, fs: fs}
	s.log = o.Logger
	if err := makeDir(dir, fs); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	s.guard = newGuard(dir, fs)
	err := s.guard.check()
	if err == nil {
		err = newEngine(dir, fs, o)
	}
	if err == nil {
		s.db, err = pebble.Open(dir, engineOptions(fs, o, &s.trouble, s.guard.changed))
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	s.tables, err = tables.Open(s.db, tables.Options{Retention: o.Retention, MaxBytes: o.MaxBytes, KeyLife: o.KeyLife})
	if err == nil {
		err = s.guard.start(s.backgroundError)
	}
	if err == nil {
		err = s.begin(o)
	}
	if err != nil {
		return nil, errors.Join(openError(dir, err), s.close(false))
	}
	s.running.Store(true)
	return s, nil
}

// openError says what can be done where a directory cannot be opened.
func openError(dir string, err error) error {
	var path *os.PathError
	switch {
	case !errors.As(err, &path) && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES)), strings.Contains(err.Error(), "held by current process"):
		return fmt.Errorf("disk: %s is in use by another process: stop that one, or choose another directory (%w)", dir, err)
	case isDamage(err):
		return fmt.Errorf("disk: %s is damaged: put a backup in its place, or move it away and begin anew (%w: %w)", dir, ErrDamaged, err)
	}
	return fmt.Errorf("disk: open %s: %w", dir, err)
}

// isDamage tells whether an error of opening says that files are not what was written.
func isDamage(err error) bool {
	for _, kind := range []error{ErrDamaged, record.ErrInvalidChunk, record.ErrZeroedChunk, record.ErrUnexpectedEOF, pebble.ErrDBNotPristine, os.ErrNotExist} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return pebble.IsCorruptionError(err) || strings.Contains(err.Error(), "mismatch")
}

// newEngine makes a new store, and closes it: only when it is opened again its
// write-ahead log has the form in which damage is found.
func newEngine(dir string, fs vfs.FS, o *Options) error {
	found, err := pebble.Peek(dir, fs)
	if err != nil || found.Exists {
		return err
	}
	db, err := pebble.Open(dir, engineOptions(fs, o, &trouble{log: o.Logger}, func() {}))
	if err != nil {
		return err
	}
	return db.Close()
}

// begin notes that the directory is in use, and begins a new order where it must.
func (s *store) begin(o *Options) error {
	ended, err := readClean(s.dir, s.fs)
	if err != nil {
		return err
	}
	known, err := s.get(rowIdentity)
	if err != nil {
		return err
	}
	isNew := s.tables.Head().Epoch == ""
	own, err := newIdentity(s.dir, s.fs, known)
	if err != nil {
		return err
	}
	orderly := ended == s.end()
	if err := removeClean(s.dir, s.fs); err != nil {
		return err
	}
	r := s.tables.Begin()
	if !isNew && !own.copied && !orderly {
		r.Skip(skippedAfterCrash)
	}
	if isNew || own.copied {
		r.Epoch(newEpoch(), o.Now())
	}
	batch, err := r.Finish()
	if err != nil {
		return err
	}
	if batch == nil {
		batch = s.db.NewBatch()
	}
	if err = batch.Set(rowIdentity, own.row, nil); err == nil {
		err = s.apply(batch, true)
	}
	if err != nil {
		return err
	}
	sealed := r.Seal()
	if err := s.wait(batch, true); err != nil {
		return err
	}
	if sealed != nil {
		if _, err := sealed.Publish(); err != nil {
			return err
		}
	}
	return own.settle()
}

// end says where the order ends.
func (s *store) end() string {
	head := s.tables.Head()
	return hub.Position(head.Epoch, head.Seq)
}

// newEpoch draws the name of a new order.
func newEpoch() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func (s *store) get(key []byte) (value []byte, err error) {
	row, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	value = append(value, row...)
	return value, closer.Close()
}

// apply puts a batch into the store, and has it synced if sync is set: wait says when it
// is. After an error it may be stored or not, and the store is of no use any more.
func (s *store) apply(batch *pebble.Batch, sync bool) (err error) {
	defer func() {
		// What Pebble does after an error of its write-ahead log, with its lock held.
		if p := recover(); p != nil {
			s.stuck.Store(true)
			err = s.failed(fmt.Errorf("commit: %v", p))
		}
	}()
	if sync {
		err = s.db.ApplyNoSyncWait(batch, pebble.Sync)
	} else {
		err = s.db.Apply(batch, pebble.NoSync)
	}
	return s.failed(err)
}

// wait waits until a batch is on the disk, if it was applied so.
func (s *store) wait(batch *pebble.Batch, sync bool) error {
	var err error
	if sync {
		err = batch.SyncWait()
	}
	return errors.Join(s.failed(err), batch.Close())
}

// failed notes an error of writing; it also returns one that came before.
func (s *store) failed(err error) error {
	if err := errors.Join(err, s.trouble.broken()); err != nil {
		s.fatal.CompareAndSwap(nil, &err)
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// close closes a store that nobody uses any more; orderly says that it is whole.
func (s *store) close(orderly bool) (err error) {
	defer func() {
		// Pebble is not made to be closed after a fatal error, but its lock must go.
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("disk: close: %v", p))
		}
	}()
	if s.stuck.Load() {
		return nil // its lock ends with the process
	}
	var ended string
	if s.tables != nil {
		ended = s.end()
		err = s.tables.Close()
	}
	orderly = orderly && s.trouble.broken() == nil
	if orderly {
		// What was committed without a sync is on the disk before the file says so.
		err = errors.Join(err, s.db.LogData(nil, pebble.Sync), s.trouble.broken())
	}
	s.guard.close()
	err = errors.Join(err, s.db.Close())
	if orderly && err == nil {
		err = s.guard.write()
	}
	if orderly && err == nil {
		err = writeClean(s.dir, s.fs, ended)
	}
	return err
}
