package tollkey

import "time"

// Algorithm is how keys that come from elsewhere were hashed there.
type Algorithm string

// The algorithms. Of the last three each hash takes long by intent and cannot be looked up: a Migration says by which part of a key it is found.
const (
	SHA256         Algorithm = "sha256"     // base64 of the SHA-256 of the whole key, as Tollkey's own
	SHA256Hex      Algorithm = "sha256-hex" // the same in hexadecimal
	SHA512Base64   Algorithm = "sha512-base64"
	PrefixedAPIKey Algorithm = "github.com/seamapi/prefixed-api-key" //nolint:gosec // a name: hexadecimal SHA-256 of what is behind the last underscore
	Bcrypt         Algorithm = "bcrypt"
	Argon2id       Algorithm = "argon2id"
	Scrypt         Algorithm = "scrypt"
)

// Native reports whether what the algorithm makes is a Digest.
func (a Algorithm) Native() bool { return a == SHA256 || a == SHA256Hex }

// Slow reports whether the hashes are found by a part of the key.
func (a Algorithm) Slow() bool { return a == Bcrypt || a == Argon2id || a == Scrypt }

// Migration is a source of keys that exist already and of which only hashes are known.
type Migration struct {
	ID        MigrationID
	Workspace WorkspaceID
	Name      string
	Algorithm Algorithm
	Lookup    Lookup // of slow algorithms
	CreatedAt time.Time
}

// Lookup says how the public part is cut from a presented key: the Part-th, counted from 0, of those between Separators.
type Lookup struct {
	Separator string
	Part      int
}
