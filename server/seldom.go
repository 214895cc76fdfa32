package server

import (
	"sync"
	"time"
)

// A seldom keeps what happens often from being told as often.
type seldom struct {
	every time.Duration

	mu   sync.Mutex
	last time.Time
}

// now tells whether it is time again.
func (s *seldom) now() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < s.every {
		return false
	}
	s.last = time.Now()
	return true
}
