package eventsource

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// fault tells of the end of an attempt and waits for the next one. It returns an
// error if there must be none.
func (s *stream) fault(ctx context.Context, err error) error {
	if err == errReconnect {
		return nil // the application's own doing, and no failure
	}
	if err == errEnded && !s.repeatable() {
		err = errFinished
	}
	s.attempt.Err = err
	s.attempt.Failures++
	s.attempt.LastEventID = s.lastEventID
	s.attempt.ReconnectionTime = s.reconnectionTime()
	delay, again := s.decide(err)
	state := StateConnecting
	if !again {
		state, delay = StateClosed, 0
	}
	if s.opt.OnError != nil {
		s.opt.OnError(ErrorEvent{Err: err, State: state, Delay: delay})
	}
	if !again {
		return err
	}
	s.wait(ctx, delay)
	return nil
}

// decide tells whether there is another attempt after err, and when.
func (s *stream) decide(err error) (delay time.Duration, again bool) {
	if err == ErrNoContent || !s.repeatable() {
		return 0, false
	}
	again = s.passing(err)
	if !again && s.opt.StrictSpec {
		return 0, false
	}
	delay = s.delay(err)
	if s.opt.Retry != nil {
		return s.opt.Retry(s.attempt, delay, again)
	}
	return delay, again
}

// repeatable tells whether the last request may be sent again. One that could not
// even be made may be.
func (s *stream) repeatable() bool {
	return s.opt.RepeatNonGET || s.method == "" || s.method == http.MethodGet
}

// passing tells whether a failure may be gone at the next attempt. To the standard
// every network error is, and no status.
func (s *stream) passing(err error) bool {
	var (
		status   *StatusError
		typ      *ContentTypeError
		redirect *RedirectError
		tooLarge *sse.SizeError
	)
	switch {
	case errors.As(err, &status):
		return !s.opt.StrictSpec && passingStatus(status.StatusCode)
	case errors.As(err, &typ), errors.As(err, &redirect), errors.As(err, &tooLarge), errors.Is(err, errBadID):
		return false
	}
	return true
}

func passingStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500 && code <= 599
}

// delay returns the default wait: what the server asked for, and on top of it a
// random part that grows with each fruitless attempt, so that clients that were cut
// off together do not come back together.
func (s *stream) delay(err error) time.Duration {
	base := s.reconnectionTime()
	if s.opt.StrictSpec {
		return base
	}
	var floor time.Duration
	if s.hasRetry {
		floor = base
	}
	var status *StatusError
	if errors.As(err, &status) {
		floor = max(floor, min(status.RetryAfter, maxDelay))
	}
	window := base
	for range s.attempt.Failures - 1 {
		if window *= 2; window >= s.opt.MaxDelay {
			break
		}
	}
	window = min(window, s.opt.MaxDelay)
	return max(minDelay, floor+rand.N(window+1))
}

// reconnectionTime returns the reconnection time in force.
func (s *stream) reconnectionTime() time.Duration {
	t := s.opt.ReconnectionTime
	if s.hasRetry {
		t = s.retry
	}
	return min(max(t, minDelay), maxDelay)
}

// wait waits until the next attempt is due. An ended context is noticed by what
// comes next.
func (s *stream) wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.wake:
	case <-ctx.Done():
	}
}
