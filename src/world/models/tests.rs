use futures::FutureExt;

use super::*;
use crate::model::assumed;
use crate::source::Settings;
use crate::units::Parameters;

/// Gives a token that says so, and counts how often it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Vec<String>>>);

impl Tokens for Counting {
    fn token(&self, namespace: &str, reference: &KeyRef) -> BoxFuture<'static, Result<Token, Unread>> {
        self.0.lock().unwrap().push(format!("{namespace}/{}", reference.name));
        let missing = Unread::Secret(format!("there is no Secret {}", reference.name));
        futures::future::ready(Token::new("hf_x").filter(|_| reference.key != "missing").ok_or(missing))
            .boxed()
    }
}

fn key() -> Key {
    ("team-a".to_owned(), "llama".to_owned())
}

fn wanted(revision: &str) -> Wanted {
    let source = SourceRef::HuggingFace {
        repository: "org/name".to_owned(),
        revision: Some(revision.to_owned()),
        file: None,
        token: None,
    };
    Wanted { source, secret: None }
}

fn with_secret(name: &str) -> Wanted {
    let secret = KeyRef { name: name.to_owned(), key: "token".to_owned() };
    Wanted { secret: Some(secret), ..wanted("main") }
}

fn shape(parameters: u64) -> Arc<ModelShape> {
    Arc::new(assumed::shape(Parameters(parameters)))
}

fn outage() -> Found {
    Err(SourceError::Status { of: "org/name".to_owned(), endpoint: "hub".to_owned(), status: 503 }.into())
}

fn gated() -> Found {
    let (of, endpoint) = ("org/name".to_owned(), "hub".to_owned());
    Err(SourceError::Unauthorized { of, endpoint, status: 401, with_token: false }.into())
}

const FRESH: Option<Duration> = Some(Duration::from_mins(10));

fn state_with(takes: Vec<(Wanted, Found)>, now: Instant) -> (State, Vec<bool>) {
    let mut state = State::default();
    let news =
        takes.into_iter().map(|(wanted, found)| state.take(&key(), &wanted, found, FRESH, now)).collect();
    (state, news)
}

#[test]
fn an_outage_does_not_take_the_place_of_a_shape() {
    let now = Instant::now();
    let (mut state, news) = state_with(
        vec![
            (wanted("main"), outage()),
            (wanted("main"), outage()),
            (wanted("main"), Ok(shape(7))),
            (wanted("main"), outage()),
        ],
        now,
    );
    assert_eq!(news, [true, false, true, false]);
    assert_eq!(state.known(&key(), &wanted("main"), now).unwrap().found, Ok(shape(7)));
    assert!(state.take(&key(), &wanted("main"), gated(), FRESH, now), "a refusal is an answer");
    assert_eq!(state.known(&key(), &wanted("v2"), now), None, "another revision is another model");
    assert!(state.take(&key(), &wanted("v2"), outage(), FRESH, now));
}

#[test]
fn another_token_is_the_same_model() {
    let now = Instant::now();
    let (state, _) = state_with(vec![(with_secret("old"), Ok(shape(7)))], now);
    assert!(state.is_current(&key(), &with_secret("old"), now));
    assert!(!state.is_current(&key(), &with_secret("new"), now), "it is read with the new one");
    assert_eq!(
        state.known(&key(), &with_secret("new"), now).unwrap().found,
        Ok(shape(7)),
        "and stands meanwhile"
    );
}

#[test]
fn what_fails_is_asked_for_ever_less_often_up_to_an_hour() {
    let now = Instant::now();
    let mut state = State::default();
    let mut waits = Vec::new();
    for _ in 0..9 {
        state.take(&key(), &wanted("main"), outage(), FRESH, now);
        waits.push(state.known(&key(), &wanted("main"), now).unwrap().again.unwrap().as_secs());
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    state.take(&key(), &wanted("main"), Ok(shape(7)), FRESH, now);
    state.take(&key(), &wanted("main"), outage(), FRESH, now);
    let known = state.known(&key(), &wanted("main"), now).unwrap();
    assert_eq!(known.again, Some(Duration::from_secs(30)), "a success starts anew");
    let secret = || Err(Unread::Secret("no key".to_owned()));
    for _ in 0..9 {
        state.take(&key(), &with_secret("s"), secret(), FRESH, now);
    }
    assert_eq!(state.known(&key(), &with_secret("s"), now).unwrap().again, Some(LONGEST_FOR_SECRET));
}

#[test]
fn whoever_asks_for_another_model_meanwhile_is_told_whatever_is_found() {
    let mut state = State::default();
    assert!(state.begin(&key(), &wanted("main")));
    assert!(state.end(&key(), &wanted("main"), Ok(shape(7)), FRESH));
    assert!(state.begin(&key(), &wanted("main")), "it is looked up again");
    assert!(!state.begin(&key(), &wanted("v2")), "one at a time");
    assert!(state.end(&key(), &wanted("main"), Ok(shape(7)), FRESH), "no news, and yet the turn of v2");
    assert!(state.begin(&key(), &wanted("v2")));
    assert!(!state.begin(&key(), &wanted("v2")));
    assert!(state.end(&key(), &wanted("v2"), Ok(shape(7)), FRESH));
    assert!(state.begin(&key(), &wanted("v2")));
    assert!(!state.end(&key(), &wanted("v2"), Ok(shape(7)), FRESH), "no news");
}

#[test]
fn what_is_found_for_an_object_that_is_gone_is_not_kept() {
    let mut state = State::default();
    assert!(state.begin(&key(), &wanted("main")));
    state.forget(&key());
    assert!(!state.end(&key(), &wanted("main"), Ok(shape(7)), FRESH));
    assert!(state.last.is_empty() && state.busy.is_empty());
    // And one of the same name that comes meanwhile is told.
    assert!(state.begin(&key(), &wanted("main")));
    state.forget(&key());
    assert!(!state.begin(&key(), &wanted("main")));
    assert!(state.end(&key(), &wanted("main"), Ok(shape(7)), FRESH));
}

fn offline(tokens: Counting) -> (Models, mpsc::UnboundedReceiver<Key>) {
    Models::new(Sources::new(Settings { offline: true, ..Settings::default() }).unwrap(), tokens)
}

#[tokio::test]
async fn a_model_that_is_not_known_is_read_beside_and_told() {
    let (models, mut told) = offline(Counting::default());
    assert_eq!(models.model(&key(), &wanted("main")), None);
    assert_eq!(told.recv().await, Some(key()));
    let known = models.model(&key(), &wanted("main")).unwrap();
    assert!(known.found.unwrap_err().to_string().contains("offline"));
    assert!(known.again.is_some_and(|again| again > Duration::from_mins(59)), "{:?}", known.again);
    models.forget(&key());
    assert_eq!(models.model(&key(), &wanted("main")), None);
}

#[tokio::test]
async fn a_secret_is_read_only_when_the_model_is() {
    let tokens = Counting::default();
    let (models, mut told) = offline(tokens.clone());
    let mut wanted = with_secret("hub");
    assert_eq!(models.model(&key(), &wanted), None);
    told.recv().await;
    for _ in 0..9 {
        assert!(models.model(&key(), &wanted).is_some());
    }
    assert_eq!(*tokens.0.lock().unwrap(), ["team-a/hub"]);
    wanted.secret.as_mut().unwrap().key = "missing".to_owned();
    assert!(models.model(&key(), &wanted).is_some(), "what was found stands meanwhile");
    told.recv().await;
    let known = models.model(&key(), &wanted).unwrap();
    assert_eq!(known.found, Err(Unread::Secret("there is no Secret hub".to_owned())));
}
