//! Which of the replicas writes: the one that holds the Lease. [`evaluate`] is pure; [`Candidate`] is the shell around it.
//!
//! Nobody's clock need agree with another's: a holder counts from when it asked, a candidate from when it saw the Lease
//! change, and the holder stops long before a candidate begins.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::fence::{Fence, Moment};

/// How long a Lease holds after it was last renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long its holder writes after it last asked for a renewal: what it sends then arrives before another begins.
const HOLDS: Duration = Duration::from_secs(10);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(2);
/// Between two looks of a candidate: a holder that goes is followed within about so long.
const LOOK: Duration = Duration::from_secs(1);
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// Where the Lease is, and who we are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This replica's name, unlike any other's.
    pub identity: String,
}

/// What is to be done about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is ours: renew it.
    Renew,
    /// It is nobody's: take it.
    Take,
    /// It is another's.
    Wait,
}

/// What is to be done about a Lease that has not changed for so long.
#[must_use]
pub fn evaluate(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Step {
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let lasts = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
    match holder {
        "" => Step::Take,
        holder if holder == me => Step::Renew,
        _ if unchanged >= lasts => Step::Take,
        _ => Step::Wait,
    }
}

/// The Lease as it is to be written.
fn written(there: Option<Lease>, options: &Options, holder: &str, now: jiff::Timestamp) -> Lease {
    let mut lease = there.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(options.name.clone()),
            namespace: Some(options.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref().unwrap_or_default() != holder && !holder.is_empty() {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        spec.acquire_time = Some(MicroTime(now));
    }
    spec.holder_identity = Some(holder.to_owned());
    let lasts = if holder.is_empty() { Duration::from_secs(1) } else { DURATION };
    spec.lease_duration_seconds = i32::try_from(lasts.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// A replica that would be the one that writes.
pub struct Candidate {
    leases: Api<Lease>,
    options: Options,
    /// The version of the Lease that was seen last, and since when.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate for a Lease.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        Self { leases: Api::namespaced(client, &options.namespace), options, seen: None }
    }

    /// Waits until the Lease is ours.
    pub async fn win(&mut self) -> Fence {
        let mut last_said: Option<String> = None;
        loop {
            match self.attempt().await {
                Ok(Some(asked)) => {
                    info!(identity = self.options.identity, "this replica is the one that writes");
                    return Fence::until(asked, HOLDS);
                }
                Ok(None) => last_said = None,
                Err(problem) => {
                    if last_said.as_ref() != Some(&problem) {
                        warn!(problem, lease = self.options.name, "cannot have the lease: trying again");
                    }
                    last_said = Some(problem);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Renews the Lease until it is lost, and closes the fence then.
    pub async fn keep(&mut self, fence: &Fence) {
        loop {
            sleep(RENEW).await;
            if !fence.is_open() {
                break;
            }
            match self.attempt().await {
                Ok(Some(asked)) => {
                    if !fence.extend(asked, HOLDS) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(problem) => warn!(problem, lease = self.options.name, "cannot renew the lease"),
            }
        }
        fence.close();
        warn!(identity = self.options.identity, "this replica is no longer the one that writes");
    }

    /// Gives the Lease back, so that another need not wait for its end.
    pub async fn release(self) {
        let given = async {
            let Some(lease) = self.leases.get_opt(&self.options.name).await? else { return Ok(()) };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            if holder == Some(self.options.identity.as_str()) {
                let lease = written(Some(lease), &self.options, "", jiff::Timestamp::now());
                self.leases.replace(&self.options.name, &PostParams::default(), &lease).await?;
                info!("gave the lease back");
            }
            Ok::<_, kube::Error>(())
        };
        match timeout(DEADLINE, given).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "cannot give the lease back: another takes it when it ends"),
            Err(_) => warn!("cannot give the lease back in time: another takes it when it ends"),
        }
    }

    /// Takes or renews the Lease if that is ours to do; when that was asked for.
    async fn attempt(&mut self) -> Result<Option<Moment>, String> {
        let attempt = async {
            let there = self.leases.get_opt(&self.options.name).await?;
            let version = there.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            let version = version.unwrap_or_default();
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => Instant::now(),
            };
            self.seen = Some((version, since));
            let spec = there.as_ref().and_then(|lease| lease.spec.as_ref());
            if evaluate(spec, &self.options.identity, since.elapsed()) == Step::Wait {
                return Ok(None);
            }
            let asked = Moment::now();
            let is_new = there.is_none();
            let lease = written(there, &self.options, &self.options.identity, jiff::Timestamp::now());
            let parameters = PostParams::default();
            let answer = if is_new {
                self.leases.create(&parameters, &lease).await
            } else {
                // Of the version that was read: whoever was faster has it.
                self.leases.replace(&self.options.name, &parameters, &lease).await
            };
            match answer {
                Ok(written) => {
                    let version = written.metadata.resource_version.unwrap_or_default();
                    self.seen = Some((version, Instant::now()));
                    Ok(Some(asked))
                }
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(error) => Err(error),
            }
        };
        match timeout(DEADLINE, attempt).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer from the API server".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_nobodys_or_has_not_changed_for_long() {
        for (holder, seconds, unchanged, step) in [
            (Some("me"), Some(15), 100, Step::Renew),
            (Some("other"), Some(15), 14, Step::Wait),
            (Some("other"), Some(15), 15, Step::Take),
            (Some("other"), Some(60), 15, Step::Wait),
            (Some("other"), None, 14, Step::Wait),
            (Some("other"), Some(-1), 14, Step::Wait),
            (Some(""), Some(15), 0, Step::Take),
            (None, None, 0, Step::Take),
        ] {
            let found = evaluate(Some(&spec(holder, seconds)), "me", Duration::from_secs(unchanged));
            assert_eq!(found, step, "{holder:?} {seconds:?} {unchanged}");
        }
        assert_eq!(evaluate(None, "me", Duration::ZERO), Step::Take);
    }

    #[test]
    fn a_holder_stops_before_another_begins() {
        assert!(HOLDS + DEADLINE < DURATION);
        assert!(RENEW + DEADLINE < HOLDS, "one renewal may fail");
    }

    #[test]
    fn it_is_counted_how_often_it_changes_hands() {
        let options = Options { namespace: "n".to_owned(), name: "l".to_owned(), identity: "me".to_owned() };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let taken = written(None, &options, "me", now);
        let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions;
        assert_eq!(transitions(&taken), Some(1));
        let renewed = written(Some(taken), &options, "me", now);
        assert_eq!(transitions(&renewed), Some(1));
        let given = written(Some(renewed), &options, "", now);
        assert_eq!(given.spec.as_ref().unwrap().lease_duration_seconds, Some(1));
        assert_eq!(evaluate(given.spec.as_ref(), "other", Duration::ZERO), Step::Take);
        assert_eq!(transitions(&written(Some(given), &options, "other", now)), Some(2));
    }
}
