# The relay as an image of some 30 MB: the binary and the libraries that it needs, no shell, not root.
#
#   docker build -t longsplice .
#   docker run --rm --publish 8080:8080 longsplice
#
# Docker's default seccomp profile refuses io_uring; the relay then runs on epoll, at about the same cost, and its first log
# lines say so. With io_uring, and with nothing else that the relay does not call:
#
#   docker run --rm --publish 8080:8080 --security-opt seccomp=tuning/seccomp.json longsplice
#
# Options are best given as environment variables (`--env LONGSPLICE_SHARDS=2`): the health check knows those too. For many
# connections `--ulimit nofile=1048576` and `--network host`, which saves the packets a bridge. The machine is checked by
# `docker run ... longsplice doctor`. docs/OPERATIONS.md, "Containers", says more.

FROM rust:1.95.0-slim-bookworm AS build
# The image's own toolchain is the one that rust-toolchain.toml names; without this it would fetch components for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin longsplice

# The C library of the same Debian as above, libgcc, and certificates.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/longsplice /usr/local/bin/longsplice
# A number, so that Kubernetes can check `runAsNonRoot`. Port 8080 needs no privilege.
USER 65532:65532
EXPOSE 8080
# The relay drains and is gone within LONGSPLICE_DRAIN_DELAY and 5 s; `docker stop` kills after 10 s unless told otherwise.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/longsplice", "health"]
ENTRYPOINT ["/usr/local/bin/longsplice"]
