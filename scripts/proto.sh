#!/bin/sh
# Regenerates the protobuf code from the .proto files. Needs protoc (Debian: protobuf-compiler); the plugin is pinned
# in tools/go.mod.
set -eu
cd "$(dirname "$0")/.."
plugin=$(go tool -modfile=tools/go.mod -n protoc-gen-go)
for proto in internal/metadata/metadatapb/*.proto; do
	protoc --plugin=protoc-gen-go="$plugin" --go_out=. --go_opt=module=chronik "$proto"
done
