//! The webhooks that the API server asks, and what they need: certificates, and a server that nobody can wear out.
//!
//! [`wire`], [`review`], [`pods`] and [`certificate`] are pure. Every replica answers ([`answer`]) from its [`World`](crate::world::World)
//! alone; the leader keeps the certificate ([`keeper`]), and every replica serves the newest ([`reload`]).
//!
//! Invariant: nothing here is in the way of what names no ModelDeployment, and what is not known is never refused.

pub mod answer;
pub mod certificate;
pub mod keeper;
pub mod pods;
pub mod reload;
pub mod review;
pub mod served;
pub mod server;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::v1alpha1::AdmissionMode;

/// How admission is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the webhooks are served.
    pub address: SocketAddr,
    /// What is done where nothing fits and neither the object nor its namespace says.
    pub mode: AdmissionMode,
    /// Whether pods that name an object are given what it needs here: where the API server does not do it by itself.
    pub pods: bool,
    /// Where the certificate comes from.
    pub certificates: Certificates,
    /// How long the server answers still after it was told to stop: the API server learns of it later than we do.
    pub drain: Duration,
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// A directory with `tls.crt` and `tls.key`, kept by somebody else.
    Directory(PathBuf),
    /// A Secret that the leader keeps.
    Own(Own),
}

/// A certificate of our own.
#[derive(Clone, Debug)]
pub struct Own {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub secret: String,
    /// The names by which the API server calls us.
    pub names: Vec<String>,
    /// The webhook configurations, of both kinds, whose `caBundle` is ours to write.
    pub configurations: Vec<String>,
    /// How long a certificate is valid.
    pub lifetime: Duration,
}
