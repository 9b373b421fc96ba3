use std::io::{Read, Write};
use std::net::TcpStream as Client;

use super::*;

async fn get(address: SocketAddr, path: &'static str) -> String {
    get_as(address, path, "*/*").await
}

async fn get_as(address: SocketAddr, path: &'static str, accept: &'static str) -> String {
    tokio::task::spawn_blocking(move || {
        let mut stream = Client::connect(address).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn it_is_ready_when_everything_has_been_read() {
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, Arc::clone(&health), metrics));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = get(address, "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("CustomResourceDefinition"), "{waiting}");
    health.definition_found();
    health.objects_read();
    assert_eq!(health.missing(), ["the list of nodes and pods"]);
    health.cluster_read();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let text = get(address, "/metrics").await;
    assert!(text.contains("application/openmetrics-text") && text.contains("# EOF"), "{text}");
    let text = get_as(address, "/metrics", "text/plain").await;
    assert!(text.contains("text/plain; version=0.0.4") && !text.contains("# EOF"), "{text}");
    assert!(text.contains("# TYPE loadline_status_writes_total counter\n"), "{text}");
    health.definition_lost();
    assert_eq!(health.missing(), ["the CustomResourceDefinition modeldeployments.loadline.dev"]);
    health.definition_found();
    health.stopping();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    server.abort();
}
