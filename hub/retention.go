package hub

import "time"

// Retention bounds the history of each topic. The zero value keeps everything.
type Retention struct {
	Age   time.Duration // of an event; 0: any
	Count int64         // events of a topic; 0: any
	Bytes int64         // of a topic's events, by Size; 0: any. The newest stays, however large
}

// A RetentionRule says how much is kept of the topics that match a pattern.
type RetentionRule struct {
	Pattern string // "**" matches every topic
	Retention
}

// RetentionRules are tried in order; the first whose pattern matches counts. A topic
// that none matches is kept whole.
type RetentionRules []RetentionRule
