//! A small HTTP server on 127.0.0.1 that misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// First and last byte of its range.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    }
}

/// What to answer.
pub(crate) enum Reply {
    /// A status, headers and a body.
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A file: the range that is asked for, or all of it.
    File(Vec<u8>, Option<&'static str>),
    /// The first bytes of a file, as long as is asked for, that goes on for so much longer.
    Sparse(Vec<u8>, u64),
    /// All of a file, whatever range is asked for, and then zeros for ever.
    Endless(Vec<u8>),
    /// A file of which so many bytes come before the connection is cut.
    Cut(Vec<u8>, usize),
    /// A file whose body does not come.
    Stalled,
    /// A file whose body comes a byte at a time.
    Dripping,
}

type Handler = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// The server; it lives as long as the test's process.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Serves with a handler, which is given each request and how many of the same path came before it.
    pub(crate) fn start(handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_as(handler, None)
    }

    /// The same over TLS, as the host `localhost`; the second is the certificate of the authority, in PEM.
    pub(crate) fn start_with_tls(
        handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> (Self, String) {
        let (config, authority) = tls();
        (Self::start_as(handler, Some(Arc::new(config))), authority)
    }

    fn start_as(
        handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, handler, tls) = (Arc::clone(&log), Arc::clone(&handler), tls.clone());
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("not zero");
                    // A client that goes away is part of what is tested.
                    let _ = match tls {
                        None => serve(stream, &log, handler.as_ref()),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).expect("a valid configuration");
                            serve(StreamOwned::new(connection, stream), &log, handler.as_ref())
                        }
                    };
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().expect("a port")
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

/// A certificate for `localhost`, and that of the authority that signed it.
fn tls() -> (ServerConfig, String) {
    let mut authority = CertificateParams::new(Vec::new()).expect("valid");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority_certificate = authority.self_signed(&authority_key).expect("signed");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .expect("valid")
        .signed_by(&key, &issuer)
        .expect("signed");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("valid")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("valid");
    (config, authority_certificate.pem())
}

fn serve<S: Read + Write>(stream: S, log: &Mutex<Vec<Seen>>, handler: &Handler) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let seen = Seen { path, headers };
    let before = {
        let mut log = log.lock().expect("not poisoned");
        let before = log.iter().filter(|other| other.path == seen.path).count();
        log.push(seen.clone());
        before
    };
    let reply = handler(&seen, before);
    let stream = reader.get_mut();
    match reply {
        Reply::Status(status, headers, body) => {
            let mut lines = String::new();
            for (name, value) in headers {
                lines.extend([name, ": ", &value, "\r\n"]);
            }
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\n{lines}content-length: {length}\r\nconnection: close\r\n\r\n"
            )?;
            stream.write_all(&body)
        }
        Reply::File(file, commit) => {
            file_reply(stream, &seen, &file, u64::try_from(file.len()).expect("small"), commit)
        }
        Reply::Sparse(file, total) => file_reply(stream, &seen, &file, total, None),
        Reply::Endless(file) => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            stream.write_all(&file)?;
            let zeros = vec![0; 64 << 10];
            loop {
                stream.write_all(&zeros)?;
            }
        }
        Reply::Cut(file, at) => {
            let length = file.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
            stream.write_all(file.get(..at).expect("shorter"))
        }
        Reply::Dripping => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                stream.flush()?;
                // Not a wait for anything: this is how slow it is.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Reply::Stalled => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")?;
            stream.flush()?;
            // The client gives up long before, and closes: that is what is waited for.
            let mut rest = String::new();
            reader.read_line(&mut rest).map(|_| ())
        }
    }
}

fn file_reply(
    stream: &mut impl Write,
    seen: &Seen,
    file: &[u8],
    total: u64,
    commit: Option<&str>,
) -> std::io::Result<()> {
    let commit = commit.map_or(String::new(), |commit| format!("x-repo-commit: {commit}\r\n"));
    let Some((from, last)) = seen.range() else {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{commit}content-length: {}\r\nconnection: close\r\n\r\n",
            file.len()
        )?;
        return stream.write_all(file);
    };
    if from >= total {
        return write!(
            stream,
            "HTTP/1.1 416 X\r\ncontent-range: bytes */{total}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let last = last.min(total - 1);
    write!(
        stream,
        "HTTP/1.1 206 X\r\n{commit}content-range: bytes {from}-{last}/{total}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        last - from + 1
    )?;
    let mut body = vec![0; usize::try_from(last - from + 1).expect("small")];
    let from = usize::try_from(from).expect("small");
    for (to, byte) in body.iter_mut().zip(file.iter().skip(from)) {
        *to = *byte;
    }
    stream.write_all(&body)
}
