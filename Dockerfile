# The image that charts/loadline runs: the binary on a base without a shell, as a numeric user.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release --bin loadline

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/loadline /usr/local/bin/loadline
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/loadline"]
CMD ["controller"]
