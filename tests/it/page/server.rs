//! `loadline ui` as a process, and requests to it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::super::cli::command;

/// The page, served until dropped.
pub(super) struct Ui {
    child: Child,
    /// `http://127.0.0.1:PORT/`
    pub(super) address: String,
}

impl Ui {
    /// Serves it with these arguments, which are separated by blanks.
    pub(super) fn start(arguments: &str) -> Self {
        let mut command = command();
        command.args(["ui", "--listen", "127.0.0.1:0", "--no-open"]).args(arguments.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).expect("a line");
        if line.is_empty() {
            let mut said = String::new();
            let _ = child.stderr.take().expect("a pipe").read_to_string(&mut said);
            panic!("it does not serve: {said}");
        }
        Self { child, address: line.trim().to_owned() }
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(1)))
            .build()
            .new_agent()
    }

    /// The answer to a request for an address.
    pub(super) fn get(&self, path: &str) -> Answer {
        Answer::of(Self::agent().get(format!("{}{path}", self.address)).call())
    }

    /// The answer to bytes of some kind.
    pub(super) fn send(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        let request = Self::agent().post(format!("{}{path}", self.address)).header("content-type", kind);
        Answer::of(request.send(body))
    }

    /// The answer to a document.
    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        self.address.trim_start_matches("http://").trim_end_matches('/')
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    fn of(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Self {
        let mut response = response.expect("an answer");
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().expect("text");
        Self { status: response.status().as_u16(), headers: response.headers().clone(), text }
    }

    /// The document, which is the answer to what is right.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// The problem, which is the answer to what is wrong.
    #[track_caller]
    pub(super) fn problem(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{}", self.text);
        let document: Value = serde_json::from_str(&self.text).expect("JSON");
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        (text("field"), text("problem"))
    }

    /// A header.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
