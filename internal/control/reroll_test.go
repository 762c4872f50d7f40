package control

import (
	"testing"
	"time"

	"github.com/tollkey/tollkey"
)

func TestGraceEnds(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 30, 15, 500_000_000, time.UTC)
	minute := time.Date(2026, 8, 1, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		now   time.Time
		grace time.Duration
		want  time.Time
	}{
		{now, 0, now.Add(-time.Millisecond)},
		{now, time.Millisecond, minute.Add(time.Minute)},
		{now, 44_500 * time.Millisecond, minute.Add(time.Minute)},
		{now, 44_501 * time.Millisecond, minute.Add(2 * time.Minute)},
		{minute, time.Minute, minute.Add(time.Minute)},
		{now, tollkey.MaxExpires * time.Millisecond, time.UnixMilli(tollkey.MaxExpires)},
	} {
		if got := graceEnds(c.now, c.grace); !got.Equal(c.want) {
			t.Errorf("%v + %v: %v, want %v", c.now, c.grace, got, c.want)
		}
	}
}

func TestAddressRange(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "10.9.8.7/8": "10.0.0.0/8", "::ffff:10.0.0.1": "10.0.0.1", "::ffff:10.0.0.0/104": "10.0.0.0/8",
		"2001:DB8:0:0::1": "2001:db8::1", "2001:db8::1/32": "2001:db8::/32", "0.0.0.0/0": "0.0.0.0/0", "::/0": "::/0",
		"": "", "10.0.0": "", "10.0.0.0/33": "", "10.0.0.0/-1": "", "fe80::1%eth0": "", "fe80::%eth0/64": "", "::ffff:10.0.0.0/95": "", "example.com": "", "010.0.0.1": "",
	} {
		if got, ok := addressRange(in); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}
