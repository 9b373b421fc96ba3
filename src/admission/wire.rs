//! The API server's question and our answer, as `admission.k8s.io/v1` has them. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::units::shorten;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Which question it is; the answer repeats it.
    pub uid: String,
    /// The kind of the object, in the version that the webhook asked for.
    pub kind: Kind,
    /// `status`, `scale`, …; empty for the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// The object's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The object's name; empty where the server is to make one.
    #[serde(default)]
    pub name: String,
    /// What is to be done with it.
    pub operation: Operation,
    /// The object as it is to be; none when it is deleted.
    #[serde(default)]
    pub object: Option<Value>,
    /// The object as it is; none when it is created.
    #[serde(default)]
    pub old_object: Option<Value>,
    /// Whether nothing is to be written.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// The kind of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Kind {
    /// Its group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its name.
    pub kind: String,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// A connection to it, such as `kubectl exec`.
    Connect,
}

/// What cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or without what a question must have.
    #[error("not an AdmissionReview: {0}")]
    Json(String),
    /// Another kind or version.
    #[error("{0} is not admission.k8s.io/v1 AdmissionReview")]
    Kind(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

/// Reads a question.
///
/// # Errors
/// See [`Malformed`].
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| Malformed::Json(shorten(&error.to_string())))?;
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(Malformed::Kind(shorten(&format!("{} {}", review.api_version, review.kind))));
    }
    if review.request.uid.is_empty() {
        return Err(Malformed::Json("request.uid is empty".to_owned()));
    }
    Ok(review.request)
}

/// What is answered, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Why it is refused; none where it is let through.
    pub refusal: Option<Refused>,
    /// What `kubectl` prints as warnings.
    pub warnings: Vec<String>,
    /// What is to be changed in the object: a JSON patch.
    pub patch: Option<Value>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The message that the user sees.
    pub message: String,
    /// Whether the object itself is wrong, whatever the cluster.
    pub is_invalid: bool,
}

#[derive(Serialize)]
struct Patch {
    patch: k8s_openapi::ByteString,
}

/// The answer to a question, as it is sent.
#[must_use]
pub fn answer(uid: &str, response: &Response) -> Value {
    let mut said = json!({"uid": uid, "allowed": response.refusal.is_none()});
    if let Some(refused) = &response.refusal {
        let (code, reason) = if refused.is_invalid { (422, "Invalid") } else { (403, "Forbidden") };
        // Without `status: Failure` a client shows no message.
        said["status"] =
            json!({"status": "Failure", "message": refused.message, "reason": reason, "code": code});
    }
    if !response.warnings.is_empty() {
        said["warnings"] = json!(response.warnings);
    }
    if let Some(patch) = &response.patch {
        let patch = Patch { patch: k8s_openapi::ByteString(patch.to_string().into_bytes()) };
        if let Ok(Value::Object(encoded)) = serde_json::to_value(patch) {
            said["patchType"] = json!("JSONPatch");
            said["patch"] = encoded.get("patch").cloned().unwrap_or_default();
        }
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
            .into_bytes()
    }

    fn request() -> Value {
        json!({"uid": "7", "kind": {"group": "loadline.dev", "version": "v1alpha1", "kind": "ModelDeployment"},
            "namespace": "a", "name": "m", "operation": "CREATE", "object": {"spec": {}}, "oldObject": null,
            "userInfo": {"username": "someone"}, "options": {"dryRun": ["All"]}, "dryRun": true})
    }

    #[test]
    fn a_question_is_read_and_what_is_none_is_not() {
        let read_one = read(&review(&request())).unwrap();
        assert_eq!((read_one.uid.as_str(), read_one.operation), ("7", Operation::Create));
        assert_eq!((read_one.old_object, read_one.dry_run), (None, Some(true)));
        let without = |key: &str| {
            let mut request = request();
            request.as_object_mut().unwrap().remove(key);
            review(&request)
        };
        let with = |key: &str, value: Value| {
            let mut request = request();
            request[key] = value;
            review(&request)
        };
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for body in [
            Vec::new(),
            b"{}".to_vec(),
            b"null".to_vec(),
            b"[]".to_vec(),
            b"\xff\xfe".to_vec(),
            without("uid"),
            without("operation"),
            without("kind"),
            with("uid", json!("")),
            with("operation", json!("EAT")),
            with("kind", json!("Pod")),
            deep.into_bytes(),
            String::from_utf8(review(&request())).unwrap().replace("{}", r#"{"a": 1e400}"#).into_bytes(),
            String::from_utf8(review(&request())).unwrap().replace("{}", r#"{"a": "\ud800"}"#).into_bytes(),
            String::from_utf8(review(&request())).unwrap().replace("{}", "{\"a\": NaN}").into_bytes(),
            String::from_utf8(review(&request()))
                .unwrap()
                .replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1")
                .into_bytes(),
        ] {
            assert!(read(&body).is_err(), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn a_refusal_says_why_and_a_patch_is_encoded() {
        let refusal = Some(Refused { message: "no".to_owned(), is_invalid: true });
        let said = answer("7", &Response { refusal, ..Response::default() });
        assert_eq!(said["response"]["status"]["message"], "no");
        assert_eq!((&said["response"]["allowed"], &said["response"]["uid"]), (&json!(false), &json!("7")));
        let said = answer("7", &Response { patch: Some(json!([])), ..Response::default() });
        assert_eq!(
            (&said["response"]["patch"], &said["response"]["allowed"]),
            (&json!("W10="), &json!(true))
        );
    }
}
