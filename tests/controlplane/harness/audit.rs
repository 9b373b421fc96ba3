//! What was asked of the API server, by whom: its audit log.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

/// Who wrote what. Bindings and statuses with their content, Deployments with what became of them; reads only those of service accounts.
pub(crate) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Request
  verbs: [create, update, patch]
  resources:
  - {group: "", resources: [pods/binding]}
  - {group: loadline.dev, resources: [modeldeployments/status]}
- level: RequestResponse
  verbs: [create, update, patch]
  resources:
  - {group: apps, resources: [deployments, deployments/status]}
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: None
  verbs: [get, list, watch]
- level: Metadata
"#;

/// One request.
#[derive(Debug)]
pub(crate) struct Request(Value);

impl Request {
    /// Reads a line of the log; `None` if it is not whole.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Who asked.
    pub(crate) fn user(&self) -> &str {
        self.text("/user/username")
    }

    /// With which token: replicas of one account have one each.
    pub(crate) fn replica(&self) -> &str {
        self.text("/user/extra/authentication.kubernetes.io~1credential-id/0")
    }

    /// `get`, `create`, `patch`, …
    pub(crate) fn verb(&self) -> &str {
        self.text("/verb")
    }

    /// Of what, such as `modeldeployments/status`.
    pub(crate) fn resource(&self) -> String {
        match self.text("/objectRef/subresource") {
            "" => self.text("/objectRef/resource").to_owned(),
            subresource => format!("{}/{subresource}", self.text("/objectRef/resource")),
        }
    }

    /// In which namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.text("/objectRef/namespace")
    }

    /// Of which name.
    pub(crate) fn name(&self) -> &str {
        self.text("/objectRef/name")
    }

    /// What was answered, as an HTTP status.
    pub(crate) fn answer(&self) -> i64 {
        self.0.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or_default()
    }

    /// Why it was refused, if it was.
    pub(crate) fn refusal(&self) -> &str {
        self.text("/responseStatus/message")
    }

    /// What was sent, where the policy keeps it.
    pub(crate) fn body(&self) -> &Value {
        self.0.get("requestObject").unwrap_or(&Value::Null)
    }

    /// What was answered, where the policy keeps it.
    pub(crate) fn answered(&self) -> &Value {
        self.0.get("responseObject").unwrap_or(&Value::Null)
    }

    /// Whether it was to change something.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb(), "get" | "list" | "watch")
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark(u64);

/// The end of the log.
pub(crate) fn mark(log: &Path) -> Result<Mark> {
    Ok(Mark(std::fs::metadata(log)?.len()))
}

/// The requests that were finished since a mark.
pub(crate) fn since(log: &Path, mark: Mark) -> Result<Vec<Request>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(mark.0))?;
    let mut requests = Vec::new();
    for line in BufReader::new(file).lines() {
        // The last line may be half written.
        requests.extend(Request::parse(&line?));
    }
    Ok(requests)
}
