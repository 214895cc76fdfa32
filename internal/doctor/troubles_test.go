package doctor_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/tidewire/tidewire/internal/doctor"
)

// TestRun_RefusalWhoseTextDoesNotCome has a server that announces a text and does not send it.
func TestRun_RefusalWhoseTextDoesNotCome(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusForbidden)
		if r.Method == http.MethodGet {
			send(w, "no ent")
			hold(w, r)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := doctor.Run(ctx, url, &doctor.Options{Idle: -1, Timeout: timeout / 10})
	if err != nil {
		t.Fatalf("got %v, want a report in time", err)
	}
	found(t, r, "status", doctor.Problem, "403", "no ent")
}
