# docker build -t longsplice . && docker run --rm --publish 8080:8080 longsplice
#
# Docker's default seccomp profile refuses io_uring; the relay then runs on epoll and its first log lines say so. docs/OPERATIONS.md,
# "io_uring in containers", tells how to allow it and why one might not want to.

FROM rust:1.95-slim-bookworm AS build
# The image's own toolchain is the one that rust-toolchain.toml names; without this it would fetch components for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin longsplice

FROM debian:bookworm-slim
COPY --from=build /build/target/release/longsplice /usr/local/bin/longsplice
# Not root, and a number, so that Kubernetes can check `runAsNonRoot`. Port 8080 needs no privilege.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["longsplice"]
