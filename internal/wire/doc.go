// Package wire is generated from api/openapi.yaml: types, decoding, validation, encoding and routing of the HTTP API.
package wire
