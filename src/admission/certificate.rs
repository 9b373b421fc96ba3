//! The webhooks' certificate: an authority of its own, used once, and the leaf that it signed. Pure but for the keys, which
//! are random.
//!
//! Invariant: what is served is trusted before it is served. A new pair is made, the API server is told to trust it beside
//! the old one, and only then is it put where the replicas read it.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// How long a pair is valid.
pub const LIFETIME_SECONDS: i64 = 90 * 24 * 3600;
/// Clocks differ: it is valid from so long ago.
const BACKDATED_SECONDS: i64 = 3600;
/// What the API server trusts at most: the present authority and those that it follows.
const MOST_AUTHORITIES: usize = 4;

/// A certificate with its key, and the authority that vouches for it, all in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The authority. Its key is not kept.
    pub authority: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub not_before: i64,
    /// Until then.
    pub not_after: i64,
}

/// A certificate that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name, or the key.
    #[error("cannot make a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The time is none that a certificate can have.
    #[error("cannot make a certificate: {0} is not a time")]
    Time(i64),
}

/// Makes a pair for a server of these names (host names, or addresses), valid from `now` for so long.
///
/// # Errors
/// See [`IssueError`].
pub fn issue(names: &[String], now: i64, lifetime: i64) -> Result<Pair, IssueError> {
    let time = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| IssueError::Time(seconds))
    };
    let (not_before, not_after) =
        (time(now.saturating_sub(BACKDATED_SECONDS))?, time(now.saturating_add(lifetime))?);
    let called = |name: &str| {
        let mut full = DistinguishedName::new();
        full.push(DnType::CommonName, name);
        full
    };
    let mut authority = CertificateParams::default();
    // Two authorities of one name could not be told apart by whoever looks for the issuer.
    authority.distinguished_name = called(&format!("loadline webhook authority {now}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (authority.not_before, authority.not_after) = (not_before, not_after);
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;

    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.distinguished_name = called("loadline webhook");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (not_before, not_after);
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
    Ok(Pair {
        authority: authority_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// When the first certificate of a PEM text is valid; `None` if it is none.
#[must_use]
pub fn validity(pem: &str) -> Option<Validity> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate, _) = element(&certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version is there in all but the oldest; then serial number, algorithm and issuer.
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, times, _) = element(rest)?;
    let (kind, from, rest) = element(times)?;
    let (other, until, _) = element(rest)?;
    Some(Validity { not_before: moment(kind, from)?, not_after: moment(other, until)? })
}

/// The first element of DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) =
            rest.split_at_checked(usize::from(length & 0x7f)).filter(|(n, _)| n.len() <= 4)?;
        (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime (`YYYYMMDDHHMMSSZ`).
fn moment(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // RFC 5280: 50 and above are of the last century.
        0x17 => format!("{}{text}", if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// A certificate and key that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No certificate or no key in PEM.
    #[error("{what} is not PEM: {problem}")]
    Pem {
        /// Which of the two.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The key is of another certificate, or of a kind that is not known.
    #[error("the certificate and its key: {0}")]
    Pair(rustls::Error),
}

/// Reads a pair as it is served.
///
/// # Errors
/// See [`Unusable`].
pub fn certified(pair: &Pair) -> Result<CertifiedKey, Unusable> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
    let pem = |what: &'static str, problem: String| Unusable::Pem { what, problem };
    let chain = chain.map_err(|error| pem("the certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(pem("the certificate", "it is empty".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(|error| pem("the key", error.to_string()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(Unusable::Pair)
}

/// Whether a pair will do: readable, of these names, and not yet two thirds through its life.
#[must_use]
pub fn is_fresh(pair: &Pair, names: &[String], made_for: Option<&str>, now: i64) -> bool {
    let Some(validity) = validity(&pair.certificate) else { return false };
    let is_young = now < renewal(validity) && now >= validity.not_before;
    is_young && made_for == Some(names.join(",").as_str()) && certified(pair).is_ok()
}

/// When a pair is to be made anew: at two thirds of its life.
#[must_use]
pub const fn renewal(validity: Validity) -> i64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    validity.not_before.saturating_add(life.saturating_mul(2) / 3)
}

/// What the API server is to trust: these authorities, the first one first, and of those that it trusts already the ones
/// that are valid still.
#[must_use]
pub fn trusted(first: &[&str], already: &str, now: i64) -> String {
    let mut all: Vec<String> = Vec::new();
    let known = blocks(already);
    let known = known.iter().filter(|block| validity(block).is_some_and(|valid| valid.not_after > now));
    for block in first.iter().flat_map(|text| blocks(text)).chain(known.cloned()) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.truncate(MOST_AUTHORITIES);
    all.concat()
}

/// The certificates of a PEM text, each as a text.
fn blocks(text: &str) -> Vec<String> {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let parts = text.split(begin).skip(1);
    let bodies = parts.filter_map(|part| part.split_once(end)).map(|(body, _)| body.replace('\r', ""));
    bodies.map(|body| format!("{begin}\n{}\n{end}\n", body.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn names() -> Vec<String> {
        vec!["loadline-webhook.loadline-system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_pair_is_valid_for_its_life_and_renewed_at_two_thirds() {
        let pair = issue(&names(), NOW, 90).unwrap();
        let valid = validity(&pair.certificate).unwrap();
        assert_eq!(valid, Validity { not_before: NOW - BACKDATED_SECONDS, not_after: NOW + 90 });
        assert_eq!(validity(&pair.authority), Some(valid));
        let renewal = renewal(valid);
        let made_for = names().join(",");
        let fresh = |at: i64| is_fresh(&pair, &names(), Some(&made_for), at);
        assert!(fresh(renewal - 1) && !fresh(renewal) && !fresh(NOW - 2 * BACKDATED_SECONDS));
        assert!(!is_fresh(&pair, &names()[..1], Some(&made_for), renewal - 1));
        assert!(!is_fresh(&pair, &names(), None, renewal - 1));
        let other = issue(&names(), NOW, 90).unwrap();
        let mixed = Pair { key: other.key, ..pair.clone() };
        assert!(!is_fresh(&mixed, &names(), Some(&made_for), renewal - 1), "the key of another");
        let half = Pair { certificate: pair.certificate[..200].to_owned(), ..pair };
        assert!(!is_fresh(&half, &names(), Some(&made_for), renewal - 1));
    }

    #[test]
    fn times_of_both_forms_and_of_far_years_are_read() {
        for now in [0, NOW, 2_600_000_000] {
            let pair = issue(&names(), now, LIFETIME_SECONDS).unwrap();
            assert_eq!(validity(&pair.certificate).unwrap().not_after, now + LIFETIME_SECONDS);
        }
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "hello"] {
            assert_eq!(validity(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_trusted_stays_so_until_it_ends() {
        let [old, new, gone] = [0, 100_000, -LIFETIME_SECONDS - 5000]
            .map(|later| issue(&names(), NOW + later, LIFETIME_SECONDS).unwrap().authority);
        let both = trusted(&[&new], &old, NOW);
        assert_eq!(both, format!("{new}{old}"));
        assert_eq!(trusted(&[&new, &old], &both, NOW), both);
        assert_eq!(trusted(&[&new], &gone, NOW), new);
        assert_eq!(trusted(&[&new], "", NOW), new);
        assert_eq!(trusted(&[&new], "garbage", NOW), new);
    }
}
