package server_test

import (
	"strings"
	"testing"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

func TestParseSlow(t *testing.T) {
	for s, want := range map[string]hub.SlowRule{
		"**=replay":             {Pattern: "**"},
		"prices/**=latest":      {Pattern: "prices/**", Policy: hub.SlowLatest},
		"a=latest,lag:1":        {Pattern: "a", Policy: hub.SlowLatest, Lag: 1},
		"a=b=disconnect,lag:20": {Pattern: "a=b", Policy: hub.SlowDisconnect, Lag: 20},
	} {
		if got, err := server.ParseSlow(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for s, says := range map[string]string{
		"a": "no \"=\"", "a/**/b=latest": "**", "=latest": "empty", "a=": "none of", "a=fast": "none of",
		"a=latest,": "lag:", "a=latest,lag:0": "from 1", "a=latest,lag:x": "from 1", "a=latest,100": "lag:",
	} {
		if got, err := server.ParseSlow(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %+v, %v, want an error with %q", s, got, err, says)
		}
	}
}
