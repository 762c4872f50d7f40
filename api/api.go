// Package api embeds the OpenAPI description of the HTTP API, the source from which internal/wire is generated.
package api

import _ "embed"

// OpenAPI is openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte
