use std::net::SocketAddr;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::certificate::{Pair, certified, issue};
use super::super::served::Served;
use super::*;
use crate::telemetry::Metrics;

/// Answers by what is posted.
struct Echo;

impl Answer for Echo {
    fn answer(self: Arc<Self>, path: String, body: Bytes) -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            match (path.as_str(), body.as_ref()) {
                ("/other", _) => Reply::NoSuchPath,
                (_, b"broken") => Reply::Broken,
                (_, b"malformed") => Reply::Malformed("no question".to_owned()),
                (_, b"never") => std::future::pending().await,
                _ => Reply::Json(body.to_vec()),
            }
        })
    }
}

struct Running {
    address: SocketAddr,
    pair: Pair,
    served: Served,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
    metrics: Metrics,
}

const SHORT: Duration = Duration::from_millis(400);

fn limits() -> Limits {
    Limits {
        body: 1 << 20,
        bodies: 1 << 20,
        handshake: SHORT,
        head: SHORT,
        read: SHORT,
        answer: SHORT,
        idle: 4 * SHORT,
        strangers: 4,
        known: 4,
    }
}

fn names() -> Vec<String> {
    vec!["webhook.test".to_owned()]
}

async fn start(limits: Limits, drain: Duration) -> Running {
    let pair = issue(&names(), jiff::Timestamp::now().as_second(), 3600).unwrap();
    let served = Served::default();
    served.replace(certified(&pair).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::default();
    let echo = Server::new(limits, Arc::new(Echo), metrics.admission.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let task = tokio::spawn(echo.run(listener, served.config().unwrap(), stopped, drain));
    Running { address, pair, served, stop: Some(stop), task, metrics }
}

type Versions = &'static [&'static SupportedProtocolVersion];
static TLS12: Versions = &[&rustls::version::TLS12];
static TLS13: Versions = &[&rustls::version::TLS13];

async fn connect(
    address: SocketAddr,
    authority: &str,
    versions: Versions,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("webhook.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Running {
    async fn connect(&self) -> TlsStream<TcpStream> {
        connect(self.address, &self.pair.authority, TLS13).await.unwrap()
    }

    /// The answer to a POST on a connection of its own.
    async fn post(&self, path: &str, body: &[u8]) -> String {
        let mut stream = self.connect().await;
        post(&mut stream, path, "application/json", body).await;
        answer(&mut stream).await
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.exposition().unwrap().lines().any(|found| found == line)
    }
}

async fn post(stream: &mut TlsStream<TcpStream>, path: &str, kind: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: webhook.test\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that has refused reads no further.
    let _ = stream.write_all(body).await;
}

/// One answer: its head and its body.
async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 1024];
    loop {
        let said = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = said.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return said;
            }
        }
        match stream.read(&mut byte).await {
            Ok(0) | Err(_) => return said,
            Ok(count) => text.extend(&byte[..count]),
        }
    }
}

/// Whether the server closes a connection within so long.
async fn is_closed(stream: &mut TlsStream<TcpStream>, within: Duration) -> bool {
    matches!(timeout(within, stream.read(&mut [0; 16])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken() {
    let running = start(limits(), Duration::ZERO).await;
    for versions in [TLS12, TLS13] {
        let mut stream = connect(running.address, &running.pair.authority, versions).await.unwrap();
        post(&mut stream, "/", "application/json", b"{}").await;
        assert!(answer(&mut stream).await.ends_with("\r\n\r\n{}"));
    }
    // A greeting of TLS 1.0, and no TLS at all.
    let hello = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    for greeting in [&hello[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        stream.write_all(&[0; 39]).await.unwrap();
        let mut said = Vec::new();
        let _ = timeout(4 * SHORT, stream.read_to_end(&mut said)).await.expect("it is closed");
        assert!(said.len() < 16 && !said.starts_with(b"HTTP"), "an alert at most: {said:?}");
    }
    assert!(connect(running.address, &issue(&names(), 0, 1).unwrap().authority, TLS13).await.is_err());
}

#[tokio::test]
async fn what_is_no_question_is_refused_by_what_is_wrong() {
    let running = start(limits(), Duration::ZERO).await;
    for (path, body, status) in [
        ("/", &b"{}"[..], "200"),
        ("/other", b"{}", "404"),
        ("/", b"malformed", "400"),
        ("/", b"", "400"),
        ("/", b"never", "504"),
        ("/", b"broken", "500"),
        ("/", &vec![b'a'; (1 << 20) + 1], "413"),
        ("/", &vec![b'a'; 1 << 20], "200"),
    ] {
        let said = running.post(path, body).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{path} {} bytes: {said:.80}", body.len());
    }
    let mut stream = running.connect().await;
    post(&mut stream, "/", "text/plain", b"{}").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 415"));
    let mut stream = running.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 405"));
    // A body that does not say how long it is, and is too long.
    let mut stream = running.connect().await;
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    for _ in 0..20 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    assert!(running.counts("loadline_admission_panics_total 1"));
    assert!(running.post("/", b"{}").await.starts_with("HTTP/1.1 200"), "it is alive");
}

#[tokio::test]
async fn who_is_slow_is_put_out_and_who_rests_is_not() {
    let running = start(limits(), Duration::ZERO).await;
    // No handshake.
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    // No head, and one that drips.
    let (mut headless, mut dripping) = (running.connect().await, running.connect().await);
    // No body.
    let mut bodyless = running.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    bodyless.write_all(head.as_bytes()).await.unwrap();
    assert!(matches!(timeout(3 * SHORT, silent.read(&mut [0; 16])).await, Ok(Ok(0) | Err(_))));
    assert!(is_closed(&mut headless, 3 * SHORT).await);
    assert!(answer(&mut bodyless).await.starts_with("HTTP/1.1 408"));
    let mut dripped = 0;
    while dripping.write_all(b"P").await.is_ok() && dripping.flush().await.is_ok() {
        dripped += 1;
        assert!(dripped < 40, "it drips on");
        tokio::time::sleep(SHORT / 8).await;
    }
    // One that has asked may rest for longer than a head may take, and then ask again.
    let mut resting = running.connect().await;
    for _ in 0..2 {
        post(&mut resting, "/", "application/json", b"{}").await;
        assert!(answer(&mut resting).await.starts_with("HTTP/1.1 200"));
        assert!(!is_closed(&mut resting, 2 * SHORT).await);
    }
    assert!(is_closed(&mut resting, 4 * SHORT).await);
}

#[tokio::test]
async fn a_crowd_of_strangers_puts_out_none_that_has_asked() {
    let running = start(Limits { handshake: Duration::from_mins(1), ..limits() }, Duration::ZERO).await;
    let mut known = running.connect().await;
    post(&mut known, "/", "application/json", b"{}").await;
    assert!(answer(&mut known).await.starts_with("HTTP/1.1 200"));
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert!(running.post("/", b"{}").await.starts_with("HTTP/1.1 200"), "there is room for a new one");
    post(&mut known, "/", "application/json", b"{}").await;
    assert!(answer(&mut known).await.starts_with("HTTP/1.1 200"));
    let mut first = crowd.remove(0);
    assert!(matches!(timeout(SHORT, first.read(&mut [0; 16])).await, Ok(Ok(0) | Err(_))));
}

#[tokio::test]
async fn another_certificate_is_served_at_once_and_breaks_no_connection() {
    let running = start(limits(), Duration::ZERO).await;
    let mut before = running.connect().await;
    let new = issue(&names(), jiff::Timestamp::now().as_second() + 1, 3600).unwrap();
    running.served.replace(certified(&new).unwrap());
    post(&mut before, "/", "application/json", b"{}").await;
    assert!(answer(&mut before).await.starts_with("HTTP/1.1 200"));
    assert!(connect(running.address, &running.pair.authority, TLS13).await.is_err());
    assert!(connect(running.address, &new.authority, TLS13).await.is_ok());
}

#[tokio::test]
async fn whoever_asks_while_it_stops_is_answered_and_sent_elsewhere() {
    let mut running = start(limits(), 2 * SHORT).await;
    let mut open = running.connect().await;
    post(&mut open, "/", "application/json", b"{}").await;
    assert!(!answer(&mut open).await.contains("connection: close"));
    drop(running.stop.take());
    // It has been told once the answers say so.
    loop {
        let said = running.post("/", b"{}").await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        if said.contains("connection: close") {
            break;
        }
    }
    post(&mut open, "/", "application/json", b"{}").await;
    let said = answer(&mut open).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
    timeout(8 * SHORT, &mut running.task).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}
