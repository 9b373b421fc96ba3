//! The pictures of the documentation: `make pictures` takes them anew.

use std::path::Path;

use super::browser::Browser;
use super::server::Ui;

/// A picture that is worth a look: everything is there, and nothing was complained of.
fn take(browser: &mut Browser, name: &str) {
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    browser.value("document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))).then(() => 0)");
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{name}: {} bytes", picture.len());
    if std::env::var_os("LOADLINE_PICTURES").is_some_and(|value| value == "1") {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        std::fs::write(directory.join(name), picture).expect("the picture can be written");
    }
}

#[test]
fn the_page_can_be_pictured() {
    let ui = Ui::start(
        "--offline --snapshot examples/cluster.snapshot -f examples/llama-8b-fp16.yaml -f examples/too-large.yaml",
    );
    let mut browser = Browser::start();
    browser.size(1280, 1010);
    browser.scheme("light");
    browser.open(&format!("{}#model=llama-3.1-8b&context=32768&sequences=4&card=RTX-4090", ui.address));
    browser.wait_for("#fit", "RTX-4090");
    take(&mut browser, "estimate.png");

    browser.value("document.querySelector('#parts-title').closest('section').scrollIntoView()");
    take(&mut browser, "parts.png");

    browser.scheme("dark");
    browser.open(&format!(
        "{}#model=llama-3.1-8b&task=train&method=full&length=4096&batch=2&gpus=8&sharding=zero3",
        ui.address
    ));
    browser.wait_for("#sentence", "Training");
    take(&mut browser, "training-dark.png");

    browser.scheme("light");
    browser.open(&format!("{}#view=cluster", ui.address));
    browser.wait_for("#objects", "llama-8b-fp16");
    browser.wait_for("#verdicts", "l4-1");
    take(&mut browser, "cluster.png");

    browser.size(390, 844);
    browser.open(&format!("{}?lang=ko#model=exaone-4.0-1.2b&precision=bf16", ui.address));
    browser.wait_for("#sentence", "필요합니다");
    take(&mut browser, "phone.png");
}
