//! Keys, tokens and kubeconfigs, made anew for each control plane.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

/// Writes the key that signs service account tokens and the administrator's token; returns the token.
pub(crate) fn write(home: &Path) -> Result<String> {
    fs::write(home.join("service-account.key"), private_key(random()?))?;
    let token = base64(&random()?).replace(['+', '/', '='], "");
    fs::write(home.join("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
    Ok(token)
}

/// Writes a kubeconfig. JSON is YAML.
pub(crate) fn kubeconfig(path: &Path, address: &str, authority: &Path, token: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": address, "certificate-authority": authority}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    });
    Ok(fs::write(path, serde_json::to_string_pretty(&config)?)?)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A P-256 private key in PEM, as RFC 5915 writes it. The public key, which may be left out, is left out.
fn private_key(mut scalar: [u8; 32]) -> String {
    // Below the order of the curve, and not zero.
    scalar[0] = 0x7f;
    let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend_from_slice(&scalar);
    der.extend_from_slice(&[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    let label = "EC PRIVATE KEY";
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(&der))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            (0..3).fold(0_usize, |word, at| word << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at)) & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
