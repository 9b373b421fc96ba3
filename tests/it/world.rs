//! Models that are read beside whoever asks, from a server that does what servers do.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use loadline::api::v1alpha1::KeyRef;
use loadline::source::{Settings, SourceRef, Sources, Token};
use loadline::world::Key;
use loadline::world::models::{Models, Tokens, Unread, Wanted};

use crate::hub::sharded;
use crate::server::{Reply, Server};

/// No model here has a token.
struct NoTokens;

impl Tokens for NoTokens {
    fn token(&self, _: &str, reference: &KeyRef) -> BoxFuture<'static, Result<Token, Unread>> {
        futures::future::ready(Err(Unread::Secret(reference.name.clone()))).boxed()
    }
}

fn models(server: &Server) -> (Models, tokio::sync::mpsc::UnboundedReceiver<Key>) {
    let settings = Settings {
        endpoint: server.url(),
        proxy_from_environment: false,
        // Longer than another may wait, and no longer than a test should.
        body_timeout: Duration::from_secs(4),
        attempts: 1,
        ..Settings::default()
    };
    Models::new(Sources::new(settings).unwrap(), NoTokens)
}

fn wanted(repository: &str) -> Wanted {
    let (repository, revision, file, token) = (repository.to_owned(), None, None, None);
    Wanted { source: SourceRef::HuggingFace { repository, revision, file, token }, secret: None }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_models_that_never_come_hold_up_no_other_namespace() {
    let server =
        Server::start(|seen, _| if seen.path.starts_with("/slow/") { Reply::Stalled } else { sharded(seen) });
    let (models, mut told) = models(&server);
    for at in 0..200 {
        let name = format!("m{at}");
        assert_eq!(models.model(&key("greedy", &name), &wanted(&format!("slow/{name}"))), None);
    }
    let began = Instant::now();
    assert_eq!(models.model(&key("other", "m"), &wanted("org/m")), None);
    assert_eq!(told.recv().await, Some(key("other", "m")));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let known = models.model(&key("other", "m"), &wanted("org/m")).unwrap();
    assert_eq!(known.found.map(|shape| shape.name.clone()), Ok("org/m".to_owned()));
    // What the greedy one asks for at the same time is bounded.
    let asked = server.seen().iter().filter(|seen| seen.path.starts_with("/slow/")).count();
    assert!(asked <= 4, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_of_one_model_share_it_and_read_it_once() {
    let server = Server::start(|seen, _| sharded(seen));
    let (models, mut told) = models(&server);
    let keys: Vec<Key> = (0..50).map(|at| key(&format!("team-{}", at % 5), &format!("m{at}"))).collect();
    let mut waiting = 0;
    for key in &keys {
        waiting += usize::from(models.model(key, &wanted("org/m")).is_none());
    }
    for _ in 0..waiting {
        told.recv().await;
    }
    let found: Vec<_> =
        keys.iter().map(|key| models.model(key, &wanted("org/m")).unwrap().found.unwrap()).collect();
    assert!(found.iter().all(|shape| std::sync::Arc::ptr_eq(shape, &found[0])));
    let configs = server.seen().iter().filter(|seen| seen.path.ends_with("config.json")).count();
    assert_eq!((configs, models.sources().fill().shapes), (1, 1));
}
