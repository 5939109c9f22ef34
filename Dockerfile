# A broker's image: built from the locked sources, run by nobody in particular, checked by its own readiness.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY crates crates
COPY config config
COPY tests tests
COPY examples examples
COPY bench bench
COPY proof proof
RUN cargo build --locked --release -p mayfly-cli --bin mayfly
RUN mkdir -p /out/state /out/log && cp target/release/mayfly /out/mayfly

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/mayfly --shell /usr/sbin/nologin mayfly
COPY --from=build /out/mayfly /usr/local/bin/mayfly
COPY --from=build --chown=10001:10001 /out/state /var/lib/mayfly
COPY --from=build --chown=10001:10001 /out/log /var/log/mayfly
COPY config /etc/mayfly
USER 10001:10001
VOLUME ["/var/lib/mayfly", "/var/log/mayfly"]
EXPOSE 8443
# The image holds no HTTP client: bash asks the plain listener itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${MAYFLY_METRICS_PORT:-9464} && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 2 _ code _ <&3 && [ \"$code\" = 200 ]"]
ENTRYPOINT ["mayfly"]
CMD ["server", "--config", "/etc/mayfly/mayfly.toml"]
