//! What the page holds out: 200 estimates a second, 1,000 slow connections, and how soon it is there.
//! `make bench-page` builds the program and prints the figures of docs/page.md.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

// Of the browser's abilities the tests need more.
#[allow(dead_code)]
#[path = "../tests/it/page/browser.rs"]
mod browser;

const THREADS: u32 = 8;
const PER_SECOND: u32 = 200;
const SECONDS: u32 = 10;
const SLOW: usize = 1000;

struct Served {
    child: Child,
    host: String,
}

impl Served {
    fn start() -> Self {
        let mut child = Command::new("target/release/loadline")
            .args(["ui", "--listen", "127.0.0.1:0", "--no-open", "--offline"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("target/release/loadline");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let host = line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { child, host }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request whose answer is wanted, and the connection kept.
fn request(path: &str, body: &str) -> Vec<u8> {
    let head = if body.is_empty() {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    } else {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends a request and reads its answer whole.
fn ask(stream: &mut BufReader<TcpStream>, request: &[u8]) -> usize {
    stream.get_mut().write_all(request).expect("it is sent");
    let (mut length, mut status) = (0, String::new());
    stream.read_line(&mut status).expect("a status");
    assert!(status.contains(" 200 "), "{status}");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a header");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    length
}

fn connect(host: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(host).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    BufReader::new(stream)
}

fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() - 1) * hundredths / 100]
}

fn shown(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{what}: {} requests, p50 {:.2?}, p99 {:.2?}, longest {:.2?}",
        times.len(),
        percentile(&times, 50),
        percentile(&times, 99),
        times.last().expect("times")
    );
}

/// So many requests a second, each counted from when it was due, whether or not the one before was answered.
fn load(host: &str, path: &str, body: impl Fn(u32) -> String + Sync) -> Vec<Duration> {
    let body = &body;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn(move || {
                    let mut stream = connect(host);
                    let (start, gap) = (Instant::now(), Duration::from_secs(1) * THREADS / PER_SECOND);
                    (0..PER_SECOND * SECONDS / THREADS)
                        .map(|number| {
                            let due = start + gap * number + gap * worker / THREADS;
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                            ask(&mut stream, &request(path, &body(worker * 100_000 + number)));
                            due.elapsed()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

fn main() {
    let served = Served::start();
    let host = &served.host;
    let spec = |number: u32| {
        let (context, model) =
            (1024 + number % 130_000, ["llama-3.1-8b", "llama-3.3-70b", "gpt-oss-20b"][number as usize % 3]);
        format!(r#"{{"spec":{{"model":{{"catalog":"{model}"}},"context":{{"length":{context}}}}}}}"#)
    };
    let mut one = connect(host);
    ask(&mut one, &request("/api/v1/estimate", &spec(0)));
    let alone: Vec<Duration> = (0..500)
        .map(|number| {
            let asked = Instant::now();
            ask(&mut one, &request("/api/v1/view", &spec(number)));
            asked.elapsed()
        })
        .collect();
    shown("/api/v1/view, one after the other", alone);
    shown(&format!("/api/v1/estimate, {PER_SECOND} a second"), load(host, "/api/v1/estimate", spec));
    shown(&format!("/api/v1/view, {PER_SECOND} a second"), load(host, "/api/v1/view", spec));

    let slow: Vec<TcpStream> = (0..SLOW)
        .map(|_| {
            let mut stream =
                TcpStream::connect(host).expect("a connection; `ulimit -n 4096` allows for so many");
            let _ = stream.write_all(b"POST /api/v1/estimate HTTP/1.1\r\nHost: loc");
            stream
        })
        .collect();
    let probe = request("/healthz", "");
    let times = (0..200)
        .map(|_| {
            let asked = Instant::now();
            ask(&mut connect(host), &probe);
            asked.elapsed()
        })
        .collect();
    shown(&format!("/healthz beside {SLOW} slow connections, a connection each"), times);
    drop(slow);

    let mut browser = browser::Browser::start();
    browser.open(&format!("http://{host}/"));
    browser.wait_for("#sentence", "GiB");
    let mut paints: Vec<f64> = (0..7)
        .map(|_| {
            browser.open(&format!("http://{host}/"));
            browser.wait_for("#sentence", "GiB");
            browser
                .value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                .as_f64()
                .expect("a paint")
        })
        .collect();
    paints.sort_by(f64::total_cmp);
    println!("first contentful paint, median of {}: {:.0} ms", paints.len(), paints[paints.len() / 2]);
}
