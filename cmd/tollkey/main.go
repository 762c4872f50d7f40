// Command tollkey is the server and its tools.
package main

import (
	"os"

	"github.com/tollkey/tollkey/internal/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr)) }
