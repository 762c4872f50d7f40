package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tollkey/tollkey/internal/vault"
)

func parseListen(c *Config, v string) error {
	_, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("must be an address and a port, as in 127.0.0.1:8080 or :8080, not %q", v)
	}
	c.Listen = v
	return nil
}

func parseData(c *Config, v string) error {
	if v == "" {
		return errors.New("must name a directory")
	}
	c.Data = v
	return nil
}

func parseRootKey(c *Config, v string) error {
	const shortest, longest = 20, 200
	if n := len(v); n > 0 && (n < shortest || n > longest) {
		return fmt.Errorf("must have %d to %d characters", shortest, longest)
	}
	c.RootKey = v
	return nil
}

func parseMasterKeys(c *Config, v string) (err error) {
	c.MasterKeys, err = vault.ParseMasterKeys(v)
	return err
}

// readMasterKeys reads the file of master keys where one is named. Like a private key, it must be for few eyes; a group may read it, as containers
// need it.
func (c *Config) readMasterKeys() error {
	const othersOrGroupWrites, mostBytes = 0o037, 64 << 10
	switch {
	case c.masterKeyFile == "":
		return nil
	case len(c.MasterKeys) > 0:
		return errors.New("vault.keys is set too; one of them must go")
	}
	f, err := os.Open(c.masterKeyFile)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() > mostBytes:
		return fmt.Errorf("%s must be a file of at most %d bytes", c.masterKeyFile, mostBytes)
	case info.Mode().Perm()&othersOrGroupWrites != 0:
		return fmt.Errorf("%s has mode %04o, so that others may read it; chmod 600 it", c.masterKeyFile, info.Mode().Perm())
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if c.MasterKeys, err = vault.ParseMasterKeys(string(text)); err == nil && len(c.MasterKeys) == 0 {
		err = errors.New("it holds no key")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.masterKeyFile, err)
	}
	return nil
}

func onlySet(v string) string {
	if v == "" {
		return ""
	}
	return "(set)"
}

var (
	// An @ may be before the host only: behind it, it is most likely the end of a password with an unescaped / or ? or #, of which the
	// end would be taken for a path, and be shown.
	databaseURL = regexp.MustCompile(`^postgres(ql)?://[^/?#]*([/?#][^@]*)?$`)
	password    = regexp.MustCompile(`^([^:]*://[^:@/?#]*):[^/?#]*@`)
	// A name with % may be password in disguise.
	passwordParameter = regexp.MustCompile(`([?&;][^=&;]*(?i:pass|%)[^=&;]*=)[^&]*`)
)

func parseDatabaseURL(c *Config, v string) error {
	if v != "" {
		if _, err := url.Parse(v); err != nil || !databaseURL.MatchString(v) {
			return errors.New("must be a URL as in postgres://user:password@host:5432/database; " +
				"in a password, special characters are percent-encoded (/ is %2F, ? is %3F, # is %23, @ is %40)")
		}
	}
	c.DatabaseURL = v
	return nil
}

// withoutPasswords takes a URL that parseDatabaseURL accepts.
func withoutPasswords(v string) string {
	return passwordParameter.ReplaceAllString(password.ReplaceAllString(v, "$1:***@"), "$1***")
}

// webAddress parses an http or https URL, and takes the slash from its end.
func webAddress(to func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" {
			u, err := url.Parse(v)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(v, "?#") {
				return errors.New("must be an http or https URL without user, query and fragment")
			}
		}
		*to(c) = strings.TrimRight(v, "/")
		return nil
	}
}

func parseTrustedProxies(c *Config, v string) error {
	c.TrustedProxies = nil
	if v == "" {
		return nil
	}
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		if a, err2 := netip.ParseAddr(part); err2 == nil && a.Zone() == "" {
			a = a.Unmap()
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		// Neither a zone nor an IPv4 range in IPv6 notation could match: clients' addresses are compared without them.
		if err != nil || p.Addr().Is4In6() {
			return fmt.Errorf("%q is neither an address, as in 10.0.0.1, nor a range, as in 10.0.0.0/8", part)
		}
		c.TrustedProxies = append(c.TrustedProxies, p.Masked())
	}
	return nil
}

// choice sets the field to whether the value is the second of two words.
func choice(first, second string, field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != first && v != second {
			return fmt.Errorf("must be %s or %s, not %q", first, second, v)
		}
		*field(c) = v == second
		return nil
	}
}

func number(least int, field func(*Config) *int) func(*Config, string) error {
	const most = 1_000_000_000 // catches slips, such as bytes where counters are meant
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("must be a whole number from %d to %d, not %q", least, most, v)
		}
		*field(c) = n
		return nil
	}
}

// nearest is the known name with the fewest characters to add, drop or replace.
func nearest(name string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
