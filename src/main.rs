//! The `loadline` binary: picks the crypto provider, and hands the rest to [`loadline::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    // More than one provider may be compiled in by a dependency's features; a second choice is refused, and is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    loadline::cli::run(std::env::args_os())
}
