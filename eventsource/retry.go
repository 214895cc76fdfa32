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
	s.attempt.Err = err
	if err == errReconnect {
		return s.wait(ctx, 0) // the application's own doing, and no failure
	}
	s.attempt.Failures++
	err, delay, again := s.decide(err)
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
	return s.wait(ctx, delay)
}

// decide tells how the attempt that ended with err is to be seen, and whether and
// when there is another.
func (s *stream) decide(err error) (_ error, delay time.Duration, again bool) {
	switch {
	case err == ErrNoContent:
		return err, 0, false
	case s.method != "" && s.method != http.MethodGet && !s.opt.RepeatNonGET:
		if err == errEnded {
			err = errFinished
		}
		return err, 0, false
	}
	again = s.passing(err)
	if !again && s.opt.StrictSpec {
		return err, 0, false
	}
	delay = s.delay(err)
	if s.opt.Retry != nil {
		delay, again = s.opt.Retry(s.attempt, delay, again)
	}
	return err, delay, again
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

// wait waits until the next attempt is due.
func (s *stream) wait(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.wake:
	case <-ctx.Done():
	}
	return nil // an ended context is noticed by what comes next
}
