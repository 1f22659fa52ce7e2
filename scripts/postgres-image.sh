#!/usr/bin/env bash
# Makes sure that Docker has PostgreSQL's image: present, or pulled, or packed from scratch from the programs that are installed here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/image.sh"

POSTGRES_IMAGE=postgres:15

# Copies a program or a library of PostgreSQL's, and the libraries that it needs.
add_program() {
    add "$1"
    add_libraries_of "$1"
}

# What the published image does at its start, as far as envoy/compose.yaml needs it.
entrypoint() {
    cat <<-'SCRIPT'
	#!/bin/sh
	set -eu
	if [ ! -e "$PGDATA/PG_VERSION" ]; then
	    printf '%s\n' "$POSTGRES_PASSWORD" |
	        initdb -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile /dev/stdin -E UTF8 --locale C
	    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
	    printf 'CREATE DATABASE "%s"\n' "$POSTGRES_DB" | postgres --single -j -D "$PGDATA" postgres
	fi
	exec postgres -D "$PGDATA" -c listen_addresses='*'
	SCRIPT
}

pack() {
    local programs version
    programs=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1 || true)
    [ -n "$programs" ] || die "$POSTGRES_IMAGE cannot be pulled, and PostgreSQL's programs are not installed here to pack one of."
    version=$(basename "$(dirname "$programs")")
    begin_packing
    for program in "$programs"/{postgres,initdb,pg_isready} /bin/sh; do add_program "$program"; done
    for library in "/usr/lib/postgresql/$version/lib"/*.so; do add_program "$library"; done
    mkdir -p "$fs/usr/share/postgresql"
    cp -rL /usr/share/zoneinfo "$fs/usr/share/zoneinfo"
    cp -rL "/usr/share/postgresql/$version" "$fs/usr/share/postgresql/$version"
    install -d -m 3777 "$fs/var/run/postgresql"
    install -d -m 0700 "$work/data"
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
have_image "$POSTGRES_IMAGE" "the programs of this machine"
