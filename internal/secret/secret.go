// Package secret makes, checks and hashes key secrets. A secret is shown to its owner once; only its digest is kept. Everything
// here is pure but for randomness, and safe for concurrent use.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math"
	"math/big"
	"strings"
)

// The bounds of a secret's random part, in bytes.
const (
	MinBytes     = 16
	MaxBytes     = 255
	DefaultBytes = 16
)

// startLength is how many characters of the encoded part people may see.
const startLength = 4

const (
	base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// checksumWidth is how many base62 digits 32 bits need.
const checksumWidth = 6

// ErrLength is returned for a random part outside MinBytes…MaxBytes.
var ErrLength = errors.New("secret: the random part must have 16 to 255 bytes")

// New returns a fresh secret, `<prefix>_<base58 of byteLength random bytes>` or without prefix and underscore when prefix is
// empty, and its start: the prefix and the first four characters of the random part, by which people recognize it.
func New(prefix string, byteLength int) (secret, start string, err error) {
	if byteLength < MinBytes || byteLength > MaxBytes {
		return "", "", ErrLength
	}
	raw := make([]byte, byteLength)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	body := Base58(raw)
	if prefix != "" {
		prefix += "_"
	}
	return prefix + body, prefix + body[:startLength], nil
}

// NewChecksummed is New in the checksummed format: `<prefix>_<base62 random><checksum>`, where the random part has the fixed width that
// byteLength needs.
func NewChecksummed(prefix string, byteLength int) (secret, start string, err error) {
	if byteLength < MinBytes || byteLength > MaxBytes {
		return "", "", ErrLength
	}
	raw := make([]byte, byteLength)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	if prefix != "" {
		prefix += "_"
	}
	body := prefix + base62Digits(new(big.Int).SetBytes(raw), base62Width(byteLength))
	return body + checksum(body), body[:len(prefix)+startLength], nil
}

// Checksummed reports whether secret ends in the checksum of what precedes it, as every secret of the checksummed format does and another text
// does once in 4·10^9 times. It needs no look-up, so that a scanner can tell a leaked secret from noise.
func Checksummed(secret string) bool {
	at := len(secret) - checksumWidth
	return at > 0 && secret[at:] == checksum(secret[:at])
}

// checksum is the CRC-32 (IEEE) of text in six base62 digits.
func checksum(text string) string {
	return base62Digits(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text)))), checksumWidth)
}

// base62Digits writes n in width digits, with zeros in front.
func base62Digits(n *big.Int, width int) string {
	out := make([]byte, width)
	base, digit := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

// base62Width is how many base62 digits hold every value of n bytes.
func base62Width(n int) int { return int(math.Ceil(float64(n) * 8 / math.Log2(62))) }

// Token returns `<prefix>_` and 24 random characters, about 140 bits.
func Token(prefix string) string {
	const bytes, length = 32, 24
	raw := make([]byte, bytes)
	_, _ = rand.Read(raw)  // never fails since Go 1.24
	encoded := Base58(raw) // at least 32 characters
	return prefix + "_" + encoded[len(encoded)-length:]
}

// Start returns what of a preset secret may be shown: up to its last underscore, and four characters more.
func Start(secret string) string {
	at := strings.LastIndexByte(secret, '_') + 1
	return secret[:min(at+startLength, len(secret))]
}

// Hash returns the SHA-256 of the whole secret, prefix included.
func Hash(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// Base58 encodes raw in the Bitcoin alphabet; each leading zero byte becomes a '1'.
func Base58(raw []byte) string {
	zeros := 0
	for zeros < len(raw) && raw[zeros] == 0 {
		zeros++
	}
	// log(256)/log(58) < 1.366 digits a byte.
	digits := make([]byte, 0, len(raw)*1366/1000+1)
	n, base, digit := new(big.Int).SetBytes(raw), big.NewInt(58), new(big.Int)
	for n.Sign() > 0 {
		n.DivMod(n, base, digit)
		digits = append(digits, base58[digit.Int64()])
	}
	out := make([]byte, 0, zeros+len(digits))
	for range zeros {
		out = append(out, '1')
	}
	for i := len(digits) - 1; i >= 0; i-- {
		out = append(out, digits[i])
	}
	return string(out)
}
