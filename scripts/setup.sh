#!/usr/bin/env bash
# Installs what the named parts need, or says what is missing and how to get it: setup.sh wasm musl envoy postgres …
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt_updated=no
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    say "Installing $* with apt-get."
    if [ "$apt_updated" = no ]; then
        apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null </dev/null || warn "apt-get update failed; trying with the lists there are."
        apt_updated=yes
    fi
    apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@" >/dev/null </dev/null
}

# need PROGRAM PACKAGE…: the program, installed by Debian's packages where that is possible.
need() {
    local program=$1
    shift
    have "$program" && return
    if can_apt && apt_install "$@" && have "$program"; then return; fi
    die "$program is missing. Install it, on Debian or Ubuntu with: sudo apt-get install $*"
}

# Keeps Debian's packages, which are installed next, from starting services for the whole machine.
for_tests_alone() {
    can_apt && [ -d /run/systemd/system ] || return 0
    local unit
    for unit in "$@"; do
        [ ! -e "/etc/systemd/system/$unit.service" ] || continue
        ln -s /dev/null "/etc/systemd/system/$unit.service"
        say "$unit runs for tests only. To run it as a service of this machine: systemctl unmask $unit"
    done
}

setup_rust() {
    have cargo || die "Rust is missing. Install it from https://rustup.rs and run this again."
    need cc gcc libc6-dev
}

# Whether rustc has the standard library of a target.
has_target() { [ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ]; }

add_target() {
    has_target "$1" && return
    if ! have rustup; then
        warn "Rust's $1 target is missing, and there is no rustup to add it."
        return 1
    fi
    say "Adding Rust's $1 target."
    (cd "$ROOT" && rustup target add "$1" >&2) && has_target "$1"
}

setup_wasm() {
    add_target wasm32-wasip1 || die "The filter needs Rust's wasm32-wasip1 target: rustup target add wasm32-wasip1"
}

# For a static `latchkey`. Without it the build falls back to the machine's own C library, so nothing here is fatal.
setup_musl() {
    if ! have musl-gcc && can_apt; then apt_install musl-tools || true; fi
    have musl-gcc || warn "musl-gcc is missing (Debian, Ubuntu: sudo apt-get install musl-tools)."
    add_target "$(uname -m)-unknown-linux-musl" || true
}

# For a native filter that runs with glibc 2.28. Without it the build falls back to the machine's own, so nothing here is fatal.
setup_zig() {
    local venv
    venv=$(zig_venv)
    add_target "$(uname -m)-unknown-linux-gnu" || true
    [ ! -x "$venv/bin/cargo-zigbuild" ] || return 0
    if ! have python3; then
        warn "Python 3 is missing; it is needed to install zig $ZIG_VERSION."
        return 0
    fi
    say "Installing zig $ZIG_VERSION from PyPI (packages ziglang, cargo-zigbuild) into .run/."
    new_venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "ziglang==$ZIG_VERSION" "cargo-zigbuild==$ZIGBUILD_VERSION" >&2 </dev/null || rm -rf "$venv"
}

setup_python() {
    need python3 python3 python3-venv
}

setup_envoy() {
    "$SCRIPTS/envoy.sh" >/dev/null
}

# Clients of the API's description: a generator of clients, and a tester that makes up requests.
setup_openapi_clients() {
    local venv=$RUN_DIR/openapi-clients
    [ -x "$venv/bin/schemathesis" ] && [ -x "$venv/bin/openapi-python-client" ] && return
    setup_python
    say "Installing schemathesis and openapi-python-client into .run/openapi-clients."
    new_venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        schemathesis==4.32.5 openapi-python-client==0.29.1 >&2 </dev/null || {
        rm -rf "$venv"
        die "schemathesis and openapi-python-client cannot be installed from PyPI."
    }
}

# The load generator of the benchmark.
setup_wrk() {
    need wrk wrk
}

# What the tests of the command line use: a terminal to type on, and a certificate.
setup_shell() {
    need script bsdutils
    need openssl openssl
}

# The gateway without the filter of the end-to-end tests.
setup_nginx() {
    [ -x /usr/sbin/nginx ] || have nginx && return
    for_tests_alone nginx
    need /usr/sbin/nginx nginx-light
}

# Real servers that end-to-end tests put behind gateways: Flask, Node, Tomcat and Jetty. Where they are missing and cannot be installed,
# this ends with status 3 and says so; the tests then skip them, each with a line.
setup_upstreams() {
    setup_python
    local venv=$RUN_DIR/upstreams flask=3.1.3
    if ! "$venv/bin/python" -c "from importlib.metadata import version; assert version('flask') == '$flask'" 2>/dev/null; then
        say "Installing Flask $flask from PyPI into .run/, for tests."
        new_venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "flask==$flask" >&2 </dev/null ||
            die "Flask $flask could not be installed from PyPI."
    fi
    local packages=(libtomcat10-embed-java libjetty9-java libservlet-api-java)
    have javac || packages+=(default-jdk-headless)
    have node || packages+=(nodejs)
    has_upstreams && return
    if can_apt; then
        apt_install "${packages[@]}"
        has_upstreams || die "apt-get installed ${packages[*]}, and Node, javac or their libraries are still missing."
        return
    fi
    warn "Some of the servers behind gateways that tests use are missing. Install them, on Debian with: sudo apt-get install ${packages[*]}"
    exit 3
}

has_upstreams() {
    have node && have javac && [ -f /usr/share/java/tomcat10-embed-core.jar ] && [ -f /usr/share/java/jetty9-server.jar ] &&
        [ -f /usr/share/java/servlet-api.jar ]
}

# A clock that tests set, for programs that are not linked statically. Where it is missing and cannot be installed, this ends with status 3
# and says so; the tests then skip what needs it, each with a line.
setup_faketime() {
    has_faketime && return
    if can_apt; then
        apt_install faketime
        has_faketime || die "apt-get installed faketime, and libfaketimeMT.so.1 is still missing."
        return
    fi
    warn "libfaketime is missing. Install it, on Debian or Ubuntu with: sudo apt-get install faketime"
    exit 3
}

has_faketime() { compgen -G '/usr/lib*/faketime/libfaketimeMT.so.1' >/dev/null || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

# Prometheus and its promtool, which the tests of the alert rules run.
setup_prometheus() {
    have prometheus && have promtool && return
    # Debian's package would start a server for the whole machine.
    local unit=/etc/systemd/system/prometheus.service
    if can_apt && [ -d /run/systemd/system ] && [ ! -e "$unit" ]; then
        ln -s /dev/null "$unit"
        say "Prometheus is to run for tests alone; should this machine be to run it: systemctl unmask prometheus"
    fi
    need prometheus prometheus
}

# What the README's examples use.
setup_readme() {
    need curl curl
    need jq jq
    need openssl openssl
}

# `docker compose`, or docker-compose.
setup_compose() {
    docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
}

# The programs of PostgreSQL, of which tests start throw-away servers of their own.
setup_postgres() {
    [ -z "${LATCHKEY_TEST_POSTGRES_URL:-}" ] || return 0
    has_postgres && return
    if can_apt; then
        # Debian's package would start a server for the whole machine.
        local conf=/etc/postgresql-common/createcluster.conf
        [ -e "$conf" ] || { mkdir -p "${conf%/*}" && echo "create_main_cluster = false" >"$conf"; }
        apt_install postgresql || true
    fi
    has_postgres || die "PostgreSQL's programs (initdb, pg_ctl) are missing. Install them, on Debian or Ubuntu with:" \
        "sudo apt-get install postgresql; or name a server for the tests in LATCHKEY_TEST_POSTGRES_URL."
}

# Patroni with its etcd, and HAProxy, for tests of a database that moves. Where they are missing and cannot be installed, this ends with
# status 3 and says so; the tests then skip what needs them, each with a line.
setup_patroni() {
    setup_postgres
    has_patroni && return
    local packages=(patroni etcd-server haproxy)
    if can_apt; then
        for_tests_alone patroni etcd haproxy
        apt_install "${packages[@]}" || true
        has_patroni && return
    fi
    warn "Patroni, etcd or HAProxy is missing. Install them, on Debian with: sudo apt-get install ${packages[*]}"
    exit 3
}

has_patroni() { have patroni && have etcd && { have haproxy || [ -x /usr/sbin/haproxy ]; }; }

has_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# A pooler before the database, for tests. Where it is missing and cannot be installed, they skip what needs it, each with a line.
setup_pgbouncer() {
    [ -x /usr/sbin/pgbouncer ] || have pgbouncer && return
    for_tests_alone pgbouncer
    if can_apt; then apt_install pgbouncer || true; fi
    [ -x /usr/sbin/pgbouncer ] || have pgbouncer ||
        warn "pgbouncer is missing, so the tests with a pooler are SKIPPED. Install it, on Debian or Ubuntu with: sudo apt-get install pgbouncer"
}

for part in "$@"; do
    # Each part by itself, so that a build does not wait for what tests need.
    only_one "setup-$part"
    case $part in
    openapi-clients) setup_openapi_clients ;;
    rust | wasm | musl | python | envoy | compose | faketime | nginx | patroni | pgbouncer | postgres | prometheus | readme | shell | upstreams | wrk | zig) "setup_$part" ;;
    *) die "setup.sh knows rust, wasm, musl, python, envoy, compose, faketime, nginx, openapi-clients, patroni, pgbouncer, postgres, prometheus, readme, shell, upstreams, wrk and zig, and not \"$part\"." ;;
    esac
    ! have flock || flock -u "$lock"
done
