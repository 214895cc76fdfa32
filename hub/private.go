package hub

import "slices"

// selectsPrivate tells whether a private event is wanted, by its topics.
func (f *Filter) selectsPrivate(topics []string) bool {
	return slices.ContainsFunc(topics, func(t string) bool { return grantsTopic(f.Private, t) && f.selectsName(t) })
}

// tidyPrivate leaves of Private what concerns the selection, in a form that all have in
// common who get the same events: they share a feed.
func (f *Filter) tidyPrivate() {
	granted := f.Private
	f.Private = nil
	whole := true
	for _, t := range f.Topics {
		if grantsTopic(granted, t) {
			f.Private = append(f.Private, t)
		} else {
			whole = false
		}
	}
	for _, p := range f.Patterns {
		if coveredBy(granted, p) {
			f.Private = append(f.Private, p)
			continue
		}
		whole = false
		for _, g := range granted {
			if both, ok := Intersect(g, p); ok {
				f.Private = append(f.Private, both)
			}
		}
	}
	if whole {
		f.Private = all
		return
	}
	slices.Sort(f.Private)
	f.Private = slices.Compact(f.Private)
}
