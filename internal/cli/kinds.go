package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind is how the values of a flag become a field; the last value counts, except where there are many.
type kind struct {
	parse    func(values []string) (any, error)
	many     bool
	onItsOwn string // the value of the flag without one
}

// one is the kind of a flag that means one value.
func one(parse func(string) (any, error)) kind {
	return kind{parse: func(values []string) (any, error) { return parse(values[len(values)-1]) }}
}

// several is the kind of a flag that may be repeated; an empty value alone means none.
func several(parse func(string) (any, error)) kind {
	return kind{many: true, parse: func(values []string) (any, error) {
		all := []any{}
		if len(values) == 1 && values[0] == "" {
			return all, nil
		}
		for _, v := range values {
			item, err := parse(v)
			if err != nil {
				return nil, err
			}
			all = append(all, item)
		}
		return all, nil
	}}
}

var (
	text       = one(asText)
	list       = several(asText)
	rateLimits = several(asRateLimit)
	refills    = one(asRefill)
	whole      = one(func(v string) (any, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("must be a whole number, not %q", v)
		}
		return n, nil
	})
	object = one(func(v string) (any, error) {
		var o map[string]json.RawMessage
		if err := json.Unmarshal([]byte(v), &o); err != nil || o == nil {
			return nil, errors.New("must be a JSON object")
		}
		return json.RawMessage(v), nil
	})
	duration = one(func(v string) (any, error) { return asMillis(v) })
	fromNow  = one(func(v string) (any, error) {
		ms, err := asMillis(v)
		return time.Now().UnixMilli() + ms, err
	})
	yesNo = kind{onItsOwn: "true", parse: one(func(v string) (any, error) {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return nil, fmt.Errorf("must be true or false, not %q", v)
		}
		return b, nil
	}).parse}
)

func asText(v string) (any, error) { return v, nil }

func asMillis(v string) (int64, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("must be a time as in 90m or 24h, not %q", v)
	}
	return d.Milliseconds(), nil
}

func asRateLimit(v string) (any, error) {
	name, rest, ok := strings.Cut(v, ":")
	most, window, ok2 := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(most, 10, 64)
	ms, err2 := asMillis(window)
	if !ok || !ok2 || err != nil || err2 != nil {
		return nil, fmt.Errorf("must be as in requests:100/1m, not %q", v)
	}
	return map[string]any{"name": name, "limit": n, "duration": ms, "autoApply": true}, nil
}

func asRefill(v string) (any, error) {
	parts := strings.Split(v, "/")
	amount, err := strconv.ParseInt(parts[0], 10, 64)
	switch {
	case err == nil && len(parts) == 2 && parts[1] == "daily":
		return map[string]any{"interval": "daily", "amount": amount}, nil
	case err == nil && len(parts) == 3 && parts[1] == "monthly":
		if day, err := strconv.Atoi(parts[2]); err == nil {
			return map[string]any{"interval": "monthly", "amount": amount, "refillDay": day}, nil
		}
	}
	return nil, fmt.Errorf("must be as in 1000/daily or 1000/monthly/1, not %q", v)
}
