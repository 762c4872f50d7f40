// Package conformance is what the tests of several packages share: the suites that every implementation of a contract must
// pass, and the databases to run them on. A suite knows the contract only, and asks for every promise that its comments make.
// Only tests import it.
package conformance

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Postgres makes an empty database for this test on the server that TOLLKEY_TEST_POSTGRES_URL names, and returns its URL. Without a server the
// test is skipped; where CI is set, it fails.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv("TOLLKEY_TEST_POSTGRES_URL")
	if server == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TOLLKEY_TEST_POSTGRES_URL is not set; make test sets it")
		}
		t.Skip("TOLLKEY_TEST_POSTGRES_URL is not set; make test sets it")
	}
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "t_" + strings.ToLower(rand.Text())
	if _, err := db.Exec("create database " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := db.ExecContext(context.Background(), "drop database "+name+" with (force)")
		if err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	address.Path = "/" + name
	return address.String()
}
