# Sourced by the test scripts: a PostgreSQL of their own, in a folder and on a port of its own, gone at the end.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

find_postgres() {
	PGBIN=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
	if [ -z "$PGBIN" ] || [ ! -x "$PGBIN/initdb" ]; then PGBIN=$(dirname "$(command -v initdb 2>/dev/null || echo /)"); fi
	[ -x "$PGBIN/initdb" ]
}

install_postgres() {
	find_postgres && return
	command -v apt-get >/dev/null || { echo "tests need PostgreSQL: please install it" >&2; exit 1; }
	# Debian starts a cluster of its own on install; the tests do not want it.
	as_root mkdir -p /etc/postgresql-common
	[ -e /etc/postgresql-common/createcluster.conf ] ||
		echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
	find_postgres || { echo "PostgreSQL was installed but initdb is missing" >&2; exit 1; }
}

# PostgreSQL refuses to run as root.
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null || shuf -i 20000-40000 -n 1; }

start_postgres() {
	install_postgres
	PGDIR=$(mktemp -d)
	trap stop_postgres EXIT
	trap 'exit 130' INT TERM
	if [ "$(id -u)" = 0 ]; then chown postgres "$PGDIR"; fi
	chmod 755 "$PGDIR"
	local port
	port=$(free_port)
	(cd / && as_postgres "$PGBIN/initdb" -D "$PGDIR/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null)
	(cd / && as_postgres "$PGBIN/pg_ctl" -D "$PGDIR/data" -w -l "$PGDIR/log" \
		-o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$PGDIR -c max_connections=300" start >/dev/null) ||
		{ cat "$PGDIR/log" >&2; exit 1; }
	export TOLLKEY_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
}

stop_postgres() {
	(cd / && as_postgres "$PGBIN/pg_ctl" -D "$PGDIR/data" -m immediate stop >/dev/null 2>&1) || true
	rm -rf "$PGDIR"
}

# What the package-lock.json of a folder names.
install_packages() {
	command -v npm >/dev/null || { echo "tests need Node.js 20 or later, with npm: please install it" >&2; exit 1; }
	(cd "$1" && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --loglevel=error; })
}

# What the requirements.txt of a folder names, into a virtual environment of its own.
install_python() {
	command -v python3 >/dev/null || { echo "tests need Python 3.10 or later: please install it" >&2; exit 1; }
	cmp -s "$1/requirements.txt" "$1/.venv/installed" && return
	if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
		command -v apt-get >/dev/null || { echo "tests need Python's venv: please install it" >&2; exit 1; }
		as_root apt-get update -qq
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
	fi
	python3 -m venv --clear "$1/.venv"
	"$1/.venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$1/requirements.txt"
	cp "$1/requirements.txt" "$1/.venv/installed"
}

# The official clients, and schemathesis, which makes requests from the OpenAPI description.
install_clients() {
	install_packages test/clients
	install_python test/clients/python
	install_python tools/schemathesis
	export TOLLKEY_TEST_CLIENTS=1
}

# golangci-lint as tools/lint/go.mod names it, built into bin/ by the present Go, once.
install_linter() {
	local wanted have
	wanted="$(go env GOVERSION) $(go list -C tools/lint -m -f '{{.Version}}' github.com/golangci/golangci-lint/v2)"
	have=$(go version -m bin/golangci-lint 2>/dev/null | awk 'NR == 1 {go = $2} $1 == "mod" || $1 == "dep" {if ($2 ~ /golangci-lint\/v2$/) print go, $3}') || true
	[ "$have" = "$wanted" ] || CGO_ENABLED=0 go build -C tools/lint -o ../../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
}
