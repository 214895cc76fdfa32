package tables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/tidewire/tidewire/hub"
)

// Head returns how far the order has come.
func (t *Tables) Head() hub.Head {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.head.public()
}

// Topic returns what is known of a topic.
func (t *Tables) Topic(name string) (info hub.TopicInfo, err error) {
	var m marks
	v := t.acquire(func(*view) {
		if topic := t.byName[name]; topic != nil {
			m = topic.seen
		}
	})
	defer func() { err = errors.Join(err, v.release()) }()
	info = hub.TopicInfo{
		Newest: m.newest, NewestID: m.wireID(v.head.epoch), Trimmed: m.trimmed,
		Oldest: m.oldest, Count: m.count, Closed: m.closed,
	}
	if m.oldest == 0 {
		return info, nil
	}
	row, err := v.get(numberKey(nil, rowOrder, m.oldest))
	if err != nil {
		return info, err
	}
	var ev hub.Event
	if _, _, err := readRecord(m.oldest, string(row), &ev, nil, v.topics); err != nil {
		return info, err
	}
	if info.OldestID = ev.ID; ev.ID == "" {
		info.OldestID = hub.Position(v.head.epoch, m.oldest)
	}
	return info, nil
}

// Locate turns a cursor into a place, as [hub.Log] has it.
func (t *Tables) Locate(ctx context.Context, c hub.Cursor) (loc hub.Location, err error) {
	if err := ctx.Err(); err != nil {
		return loc, fmt.Errorf("tables: locate: %w", err)
	}
	var skipped []span
	v := t.acquire(func(*view) { skipped = t.skipped })
	defer func() { err = errors.Join(err, v.release()) }()
	switch {
	case c.Epoch != "":
		return v.locatePosition(c, skipped), nil
	case c.ID != "":
		row, err := v.get(idKey(nil, c.ID))
		if err != nil || row == nil {
			return hub.Location{Lost: hub.LostUnknown}, err
		}
		seq, n := binary.Uvarint(row)
		if n <= 0 {
			return loc, fmt.Errorf("tables: id: %w", ErrDamaged)
		}
		return hub.Location{Seq: seq}, nil
	case !c.Since.IsZero():
		seq, err := v.before(c.Since.UnixNano())
		return hub.Location{Seq: seq}, err
	}
	return loc, nil
}

func (v *view) locatePosition(c hub.Cursor, skipped []span) hub.Location {
	if c.Epoch != v.head.epoch || c.Seq > v.head.seq {
		return hub.Location{Lost: hub.LostEpoch}
	}
	i := sort.Search(len(skipped), func(i int) bool { return skipped[i].to > c.Seq })
	if i < len(skipped) && skipped[i].from <= c.Seq {
		// What was there is lost, with all that followed it; what came before the
		// subscriber has.
		return hub.Location{Seq: skipped[i].from - 1, Lost: hub.LostEpoch}
	}
	return hub.Location{Seq: c.Seq}
}

// before returns a sequence that everything with that time or a later one is above: that
// of the last record with an earlier time that is kept, or, if all that was removed is
// earlier, of the last one of those.
func (v *view) before(when int64) (seq uint64, err error) {
	it, err := v.rows(rowOrder)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.it.Close()) }()
	low, high := uint64(1), v.head.seq+1
	for low < high {
		mid := low + (high-low)/2
		if !it.seek(mid) {
			high = mid
			continue
		}
		r := reader[[]byte]{rest: it.it.Value()}
		r.byte()
		time := int64(r.fixed())
		if r.err != nil {
			return 0, fmt.Errorf("tables: record: %w", r.err)
		}
		if time < when {
			low = it.seq() + 1
		} else {
			high = mid
		}
	}
	if v.head.goneTime < when {
		low = max(low, v.head.gone+1)
	}
	return low - 1, it.it.Error()
}
