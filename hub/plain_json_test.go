package hub

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var plainSeeds = []string{
	`{"data":"x"}`, `{"data":"é 😀 \u007f","topics":["a","b"],"type":"t","id":"1","private":true}`, `{}`, `{ }`, "\t{ \"data\" : \"a b\" ,\n\"private\" : false } ",
	`{"data":""}`, `{"topics":[]}`, `{"topics":[ "a" , "b" ]}`, `{"private":true}`,
	// What is left to the JSON package, right or wrong.
	`{"data":"a\"b"}`, `{"data":"\\"}`, `{"data":"` + "\n" + `"}`, `{"data":1}`, `{"data":{"data":"x"}}`, `{"data":"x","data":"y"}`, `{"Data":"x"}`, `{"data":"x","retry":5}`,
	`{"data":"x","other":"y"}`, `{"topics":null}`, `{"topics":"a"}`, `{"topics":["a",]}`, `{"topics":["a" "b"]}`, `{"topics":["a"`, `{"data":"x",}`, `{,}`, `{"data"}`, `{"data":}`,
	`{"data":"x"`, `{"data":"x"}}`, `{"data":"x"} y`, `{"data":"x" "id":"y"}`, `{"private":truex}`, `{"private":tru`, `{"private":"true"}`, `{"data":"x`, `{"":""}`, `{"topics":[["a"]]}`, `{"topics":["a"]]`,
}

func TestParsePlain_TakesWhatIsPlain(t *testing.T) {
	for i, s := range plainSeeds[:9] {
		if _, ok := parsePlain([]byte(s), Event{}); ok == (i == 1) { // it has an escape
			t.Errorf("%s: got %v", s, ok)
		}
	}
	got, ok := parsePlain([]byte(`{"data":"x","topics":["b"]}`), Event{ID: "i", Type: "t", Topics: []string{"a"}, Retry: time.Second, Private: true})
	want := Event{ID: "i", Type: "t", Data: "x", Topics: []string{"b"}, Retry: time.Second, Private: true}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
}

// FuzzParsePlain compares the two ways to read an event: what the plain one takes, the JSON
// package takes for the same.
func FuzzParsePlain(f *testing.F) {
	for _, s := range plainSeeds {
		f.Add(s)
	}
	proto := Event{ID: "i", Type: "t", Topics: []string{"proto"}}
	f.Fuzz(func(t *testing.T, s string) {
		b := []byte(strings.TrimSpace(s))
		if len(b) == 0 || !utf8.Valid(b) {
			return
		}
		plain, ok := parsePlain(b, proto)
		if !ok {
			return
		}
		other, err := parseJSON(b, proto)
		if err != nil || !reflect.DeepEqual(plain, other) {
			t.Errorf("%s: got %+v, want %+v, %v", s, plain, other, err)
		}
	})
}

func BenchmarkParseEvent(b *testing.B) {
	line := []byte(`{"data":"` + strings.Repeat("x", 200) + `","topics":["topic/12"],"type":"message"}`)
	for name, parse := range map[string]func([]byte, Event) (Event, error){"plain": parseEvent, "json": parseJSON} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse(line, Event{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
