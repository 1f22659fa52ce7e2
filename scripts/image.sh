# shellcheck shell=bash
# What makes sure that Docker has an image: present, or pulled, or packed from scratch. Source it after lib.sh.

PULL_SECONDS=${PULL_SECONDS:-120}

# The root file system that is being packed.
begin_packing() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    fs=$work/fs
    install -d -m 1777 "$fs/tmp"
    install -d "$fs/etc"
}

# Copies a file into the root file system under the same path.
add() { install -D "$1" "$fs$1"; }

# Copies the C libraries that a program needs.
add_libraries_of() {
    # Lines of ldd: `libm.so.6 => /lib/… (0x…)`, and the loader's `/lib64/ld-… (0x…)`.
    for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*'); do add "$library"; done
}

present() { docker image inspect "$1" >/dev/null 2>&1; }

# have_image IMAGE SOURCE: where the image is neither present nor to be pulled, `pack` makes one of that name from the source.
have_image() {
    if present "$1"; then
        say "$1 is present."
    elif say "Pulling $1." && timeout "$PULL_SECONDS" docker pull -q "$1" >/dev/null 2>&1; then
        say "$1 is pulled."
    else
        say "$1 cannot be pulled; packing one of that name from $2."
        pack
        say "$1 is packed."
    fi
}
