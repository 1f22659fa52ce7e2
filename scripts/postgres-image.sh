#!/usr/bin/env bash
# Makes sure that Docker has PostgreSQL's image: present, or pulled, or packed from scratch from the programs that are installed here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

POSTGRES_IMAGE=postgres:15
PULL_SECONDS=${PULL_SECONDS:-120}

# Copies a file into the root file system under the same path.
add() { install -D "$1" "$fs$1"; }

# Copies a program, and the libraries that it needs.
add_program() {
    add "$1"
    # Lines of ldd: `libm.so.6 => /lib/… (0x…)`, and the loader's `/lib64/ld-… (0x…)`.
    for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*'); do add "$library"; done
}

# What the published image does at its start, as far as envoy/compose.yaml needs it.
entrypoint() {
    cat <<-'SCRIPT'
	#!/bin/sh
	set -eu
	if [ ! -e "$PGDATA/PG_VERSION" ]; then
	    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
	    initdb -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile /tmp/password -E UTF8 --locale C
	    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
	    printf 'CREATE DATABASE "%s"\n' "$POSTGRES_DB" | postgres --single -j -D "$PGDATA" postgres
	fi
	exec postgres -D "$PGDATA" -c listen_addresses='*'
	SCRIPT
}

pack() {
    local programs version
    programs=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1)
    [ -n "$programs" ] || die "$POSTGRES_IMAGE cannot be pulled, and PostgreSQL's programs are not installed here to pack one of."
    version=$(basename "$(dirname "$programs")")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    fs=$work/fs
    for program in "$programs"/{postgres,initdb,pg_isready} /bin/sh; do add_program "$program"; done
    for library in "/usr/lib/postgresql/$version/lib"/*.so; do add_program "$library"; done
    mkdir -p "$fs/usr/share/postgresql"
    cp -rL /usr/share/zoneinfo "$fs/usr/share/zoneinfo"
    cp -rL "/usr/share/postgresql/$version" "$fs/usr/share/postgresql/$version"
    install -d -m 1777 "$fs/tmp"
    install -d -m 3777 "$fs/var/run/postgresql"
    install -d -m 0700 "$work/data"
    install -d "$fs/etc"
    printf 'root:x:0:0::/:/nologin\npostgres:x:999:999::/:/nologin\n' >"$fs/etc/passwd"
    printf 'root:x:0:\npostgres:x:999:\n' >"$fs/etc/group"
    entrypoint >"$fs/start"
    chmod 0755 "$fs/start"
    cat >"$work/Dockerfile" <<-DOCKERFILE
	FROM scratch
	COPY fs /
	COPY --chown=999:999 data /var/lib/postgresql/data
	ENV PATH=$programs:/bin PGDATA=/var/lib/postgresql/data
	LABEL org.opencontainers.image.description="PostgreSQL $version, packed for the tests of latchkey"
	USER 999:999
	ENTRYPOINT ["/start"]
	DOCKERFILE
    docker build -q -t "$POSTGRES_IMAGE" "$work" >/dev/null
}

docker_answers || die "No Docker engine answers."
only_one postgres-image
present() { docker image inspect "$POSTGRES_IMAGE" >/dev/null 2>&1; }
if present; then
    say "$POSTGRES_IMAGE is present."
elif say "Pulling $POSTGRES_IMAGE." && timeout "$PULL_SECONDS" docker pull -q "$POSTGRES_IMAGE" >/dev/null 2>&1; then
    say "$POSTGRES_IMAGE is pulled."
else
    say "$POSTGRES_IMAGE cannot be pulled; packing one of that name from the programs of this machine."
    pack
    say "$POSTGRES_IMAGE is packed."
fi
