// Package api embeds the OpenAPI description of the HTTP API, the source from which internal/wire is generated, and the registry of its errors.
package api

import _ "embed"

// OpenAPI is openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte

// Errors is errors.yaml: a list of type, status, title, means and do.
//
//go:embed errors.yaml
var Errors []byte
