package httpapi

import "testing"

func TestTextFault(t *testing.T) {
	for body, want := range map[string]int{
		`{}`:                         -1,
		`{"a":"ü 🔑"}`:                -1,
		`{"a":"\"\\\/\n\u00e9"}`:     -1,
		`{"a":"\\u0000"}`:            -1, // a backslash and letters
		`{"a":"\\\\u0000 \\ud800"}`:  -1,
		`{"a":"\ud83d\udd11"}`:       -1,
		`{"a":"\uFFFD"}`:             -1,
		`{"a":"\u0000"}`:             6,
		`{"a\u0000":1}`:              3,
		`{"a":"\\\u0000"}`:           8,
		`{"a":"\ud83d"}`:             6,
		`{"a":"\ud83d\n"}`:           6,
		`{"a":"\ud83dx"}`:            6,
		`{"a":"\udd11\ud83d"}`:       6,
		`{"a":"\ud83d\ud83d\udd11"}`: 6,
		`{"a":"\ud83d\udd11\udd11"}`: 18,
		"{\"a\":\"\xff\"}":           6,
		"{\"a\":\"ü\xc3\"}":          8,
		"{\"a\":\"\xed\xa0\x80\"}":   6,  // a surrogate as bytes
		`{"a":"\u000`:                -1, // no decoded body ends so
		`\`:                          -1,
	} {
		got := -1
		if fault := textFault([]byte(body)); fault != nil {
			got = fault.at
		}
		if got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}

func BenchmarkTextFault(b *testing.B) {
	body := []byte(`{"key":"sk_live_0123456789abcdefghijklmnop","tags":["path=/v1/users"],"permissions":"docs.read AND docs.write"}`)
	b.ReportAllocs()
	for b.Loop() {
		if textFault(body) != nil {
			b.Fatal("all of it is text")
		}
	}
}
