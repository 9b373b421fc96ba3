//! What people do on the page, in a real browser.

use serde_json::Value;

use super::browser::Browser;
use super::server::Ui;
use crate::cli::{file, run};
use crate::hub::sharded;
use crate::server::Server;
use crate::weights::llama_gguf;

const SENTENCE: &str = "#sentence";

/// A browser on the page, with an answer.
fn opened(ui: &Ui, path: &str) -> Browser {
    let mut browser = Browser::start();
    browser.open(&format!("{}{path}", ui.address));
    browser.wait_for(SENTENCE, "GiB");
    browser
}

fn is_green(browser: &mut Browser, card: &str) -> bool {
    let found = browser.value(&format!(
        "[...document.querySelectorAll('#cards button')].find((b) => b.firstChild.textContent === {card:?}).className"
    ));
    found == "fits"
}

fn hash(browser: &mut Browser) -> String {
    browser.value("decodeURIComponent(location.hash)").as_str().expect("a text").to_owned()
}

/// What is required of a GPU, as the page and the command line print it.
fn required(arguments: &str) -> String {
    let printed = run(&format!("estimate -o json {arguments}"));
    assert_eq!(printed.code, 0, "{arguments}: {}", printed.stderr);
    let document: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    #[expect(clippy::cast_precision_loss)]
    let gib = document["requiredPerGpu"].as_u64().expect("bytes") as f64 / f64::from(1 << 30);
    if gib < 10.0 {
        let text = format!("{gib:.2}");
        let short = text.strip_suffix('0').unwrap_or(&text);
        format!("{short} GiB")
    } else {
        format!("{gib:.1} GiB")
    }
}

#[test]
fn a_model_is_found_as_one_types_and_answered_as_by_the_command_line() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    browser.wait_for(SENTENCE, &required("--model llama-3.1-8b --context 8192"));
    browser.fill("#model", "llama 70b 3.3");
    browser.wait("document.querySelector('#models li')");
    assert_eq!(browser.value("document.querySelector('#model').getAttribute('aria-expanded')"), "true");
    browser.press("ArrowDown");
    let active = browser.value("document.getElementById(document.querySelector('#model').getAttribute('aria-activedescendant')).dataset.name");
    assert_eq!(active, "llama-3.3-70b");
    browser.press("Enter");
    browser.wait_for(SENTENCE, "llama-3.3-70b");
    browser.wait_for(SENTENCE, &required("--model llama-3.3-70b --context 8192"));
    assert!(hash(&mut browser).contains("model=llama-3.3-70b"));
    // The formula has its numbers beside each part, and the range.
    let parts = browser.text("#parts");
    assert!(parts.contains("70.55B parameters x 2 bytes") && parts.contains("327680 bytes"), "{parts}");
    assert!(browser.text("#range").contains("likely"));
    // Going back is going back.
    browser.value("history.back()");
    browser.wait_for(SENTENCE, "llama-3.1-8b");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_quick_rule_is_shown_in_green() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "#model=8B&precision=fp16&context=2048");
    browser.wait_for(SENTENCE, "8B");
    assert!(is_green(&mut browser, "RTX-4090") && !is_green(&mut browser, "T4"));
    assert_eq!(browser.text("#confidence"), "assumed");
    browser.choose("#precision", "int4");
    browser.wait_for(SENTENCE, "int4");
    assert!(is_green(&mut browser, "RTX-4060"));
    browser.open(&format!("{}#model=exaone-4.0-1.2b&precision=bf16&context=4096", ui.address));
    browser.wait_for("#parts", "2.38 GiB");
}

#[test]
fn sliders_answer_as_they_move_and_the_address_keeps_what_was_asked() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    browser.value("document.querySelector('#context-slider').focus()");
    browser.press("End");
    browser.wait_for(SENTENCE, "131,072 tokens");
    browser.wait_for(SENTENCE, &required("--model llama-3.1-8b --context 131072"));
    browser.press("Home");
    browser.wait_for(SENTENCE, "512 tokens");
    assert_eq!(
        browser.value("document.querySelector('#context-slider').getAttribute('aria-valuetext')"),
        "512"
    );
    browser.fill("#context", "5000");
    browser.fill("#sequences", "3");
    browser.fill("#tensor", "2");
    browser.choose("#cache", "fp8");
    browser.choose("#engine", "sglang");
    browser.fill("#margin", "1.3");
    let expected = "--model llama-3.1-8b --context 5000 --sequences 3 --tensor 2 --cache-precision fp8 --engine sglang --margin 1.3";
    browser.wait_for(SENTENCE, &required(expected));
    browser.wait_for(SENTENCE, "each of 2 GPUs");
    let address = browser.value("location.href");
    let sentence = browser.text(SENTENCE);
    browser.open(address.as_str().expect("an address"));
    browser.wait_for(SENTENCE, &sentence);
    assert_eq!(browser.value("document.querySelector('#sequences').value"), "3");
    // Engine arguments count, and what is not known of them is said.
    browser.fill("#args", "--enable-lora --max-lora-rank 64 --no-such-flag");
    browser.wait_for("#notes", "--no-such-flag");
    browser.click("#controls [type=reset]");
    browser.wait_for(SENTENCE, &required("--model llama-3.1-8b --context 8192"));
}

#[test]
fn training_is_answered_as_by_the_command_line() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    browser.click("[name=task][value=train] + span");
    browser.wait_for(SENTENCE, "Training llama-3.1-8b");
    browser
        .wait_for(SENTENCE, &required("--model llama-3.1-8b --training lora --context 2048 --sequences 1"));
    browser.choose("#method", "full");
    browser.choose("#optimizer", "adamw-8bit");
    browser.fill("#length", "1024");
    browser.fill("#batch", "2");
    browser.fill("#gpus", "8");
    browser.choose("#sharding", "zero3");
    browser.wait_for(
        SENTENCE,
        &required("--model llama-3.1-8b --training full --optimizer adamw-8bit --context 1024 --sequences 2 --gpus 8 --sharding zero3"),
    );
    assert!(browser.text("#parts").contains("Optimizer"));
    assert_eq!(browser.value("document.querySelector('#rank-row').hidden"), true);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn my_card_says_what_it_takes_and_a_press_makes_it_fit() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "#context=131072&sequences=4");
    browser.click("#cards li:nth-child(6) button");
    browser.wait_for("#fit", "does not fit RTX-4090");
    let fit: Value = serde_json::from_str(
        &run("estimate -o json --model llama-3.1-8b --context 131072 --sequences 4 --fit RTX-4090").stdout,
    )
    .expect("JSON");
    let change = fit["fit"]["changes"][0]["flags"].as_str().expect("a change").replace("--", "");
    let text = browser.text("#fit");
    assert!(text.contains(&change), "{text}");
    browser.click("#fit .changes button");
    browser.wait_for("#fit", "It fits RTX-4090");
    assert!(is_green(&mut browser, "RTX-4090"));
    browser.fill("#card", "24GB");
    browser.wait_for("#problem-card", "GiB");
    browser.fill("#card", "80GiB");
    browser.wait_for("#fit", "It fits 80GiB");
    browser.wait("document.querySelector('#problem-card').innerText === ''");
}

#[test]
fn files_are_read_by_their_headers_and_a_config_can_be_pasted() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    let config = "tests/fixtures/configs/openai__gpt-oss-20b.json";
    let absolute = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    browser.give("#file", &absolute(config));
    let expected = required(&format!("--config {config} --context 8192"));
    browser.wait_for(SENTENCE, &expected);
    // It is in the address, for whoever opens that.
    let address = browser.value("location.href");
    browser.open(address.as_str().expect("an address"));
    browser.wait_for(SENTENCE, &expected);

    // Larger than the first part that is sent: weights follow the header.
    let (_directory, path) = file("tiny.gguf", llama_gguf(2, 200_000).bytes());
    let whole = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    whole.set_len(256 << 20).expect("a file with holes");
    browser.choose("#engine", "llama-cpp");
    browser.give("#file", &path);
    browser.wait_for(SENTENCE, "tiny");
    browser.wait_for(SENTENCE, &required(&format!("--gguf {path} --context 8192 --engine llama-cpp")));

    let text = std::fs::read_to_string("tests/fixtures/configs/Qwen__Qwen3-8B.json").expect("a fixture");
    browser.fill("#model", &text.split_whitespace().collect::<Vec<_>>().join(" "));
    browser.press("Enter");
    browser.choose("#engine", "vllm");
    browser
        .wait_for(SENTENCE, &required("--config tests/fixtures/configs/Qwen__Qwen3-8B.json --context 8192"));

    let (_directory, path) = file("notes.gguf", "not a model at all");
    browser.give("#file", &path);
    browser.wait("document.querySelector('#problem-model').innerText !== ''");
    assert_eq!(browser.value("document.querySelector('#model').getAttribute('aria-invalid')"), "true");
}

#[test]
fn a_repository_and_its_address_are_read_from_the_hub() {
    let hub = Server::start(|seen, _| sharded(seen));
    let ui = Ui::start(&format!("--hub-endpoint {}", hub.url()));
    let mut browser = opened(&ui, "");
    browser.fill("#model", "https://huggingface.co/org/model/tree/main");
    browser.press("Enter");
    browser.wait_for(SENTENCE, "org/model");
    let endpoint = hub.url();
    browser.wait_for(
        SENTENCE,
        &required(&format!("--model org/model --hub-endpoint {endpoint} --context 8192")),
    );
    // Only the server asks the Hub: the browser asks nobody else.
    let elsewhere = browser.value(
        "performance.getEntriesByType('resource').map((e) => e.name).filter((name) => !name.startsWith(location.origin))",
    );
    assert_eq!(elsewhere, serde_json::json!([]));
    browser.fill("#model", "someone/else");
    browser.press("Enter");
    browser.wait_for(SENTENCE, "someone/else");

    let offline = Ui::start("--offline");
    browser.open(&format!("{}#model=someone/else", offline.address));
    browser.wait_for("#problem-model", "offline");
}

#[test]
fn wrong_inputs_are_said_beside_what_is_wrong_and_forgotten_when_right() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    for (selector, wrong, said, right) in [
        ("#context", "0", "context.length", "4096"),
        ("#context", "-5", "context.length", "4096"),
        ("#sequences", "99999999", "context.sequences", "2"),
        ("#tensor", "3", "parallelism.tensor", "2"),
        ("#margin", "0.9", "0.9", "1.2"),
        ("#margin", "much", "much", ""),
        ("#args", "--max-model-len 77", "engine.args", ""),
        ("#card", "L5", "L5", "L4"),
    ] {
        browser.fill(selector, wrong);
        browser
            .wait(&format!("document.querySelector({selector:?}).getAttribute('aria-invalid') === 'true'"));
        browser.wait(&format!(
            "[...document.querySelectorAll('.problem')].some((p) => p.innerText.includes({said:?}))"
        ));
        browser.fill(selector, right);
        browser.wait("!document.querySelector('[aria-invalid]')");
        browser.wait("[...document.querySelectorAll('.problem')].every((p) => p.innerText === '')");
    }
    browser.fill("#model", "lama-3.1-8b");
    browser.press("Enter");
    browser.wait_for("#problem-model", "llama-3.1-8b");
    browser.fill("#model", "<img src=x onerror=alert(1)>");
    browser.press("Enter");
    browser.wait_for("#problem-model", "<img");
    assert_eq!(browser.value("document.querySelectorAll('main img').length"), 0);
    browser.open(&format!("{}#model=llama-3.1-8b&engine=nothing&context=1e3&card=%3Cb%3E", ui.address));
    browser.wait_for("#problem", "nothing");
    // A page that was opened with something wrong is mended like any other.
    browser.choose("#engine", "vllm");
    browser.fill("#card", "");
    browser.wait_for(SENTENCE, "1,000 tokens");
}

#[test]
fn an_answer_is_shared_as_link_yaml_command_json_and_image() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "#model=llama-3.1-8b&precision=fp16&context=4096");
    browser.wait_for(SENTENCE, "fp16");
    let shared = |browser: &mut Browser, kind: &str| {
        browser.click(&format!("[data-copy={kind}]"));
        browser.wait("document.querySelector('#dialog').open");
        let text = browser.value("document.querySelector('#dialog-text').textContent");
        browser.press("Escape");
        browser.wait("!document.querySelector('#dialog').open");
        text.as_str().expect("a text").to_owned()
    };
    let link = shared(&mut browser, "link");
    assert!(link.starts_with(&ui.address) && link.contains("precision=fp16"), "{link}");
    let command = shared(&mut browser, "command");
    let printed = run(&format!("{} -o json", command.strip_prefix("loadline ").expect("the program"))).stdout;
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let json: Value = serde_json::from_str(&shared(&mut browser, "json")).expect("JSON");
    assert_eq!(json, printed);
    let yaml = shared(&mut browser, "yaml");
    let (_directory, path) = file("copied.yaml", &yaml);
    let planned = run(&format!("plan -f {path} --snapshot examples/cluster.snapshot"));
    assert_eq!(planned.code, 0, "{}{}", planned.stdout, planned.stderr);
    browser.click("[data-copy=image]");
    browser.wait("document.querySelector('#dialog-image').naturalWidth === 1200");
    assert!(
        browser
            .value("document.querySelector('#dialog-image').alt")
            .as_str()
            .expect("a text")
            .contains("GiB")
    );
    browser.click("#dialog-close");
    browser.wait("!document.querySelector('#dialog').open");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn what_was_measured_stands_beside_the_estimate() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "#model=gemma-2-27b-it");
    browser.wait_for(SENTENCE, "gemma-2-27b");
    browser.wait_for("#measured", "vllm");
    let text = browser.text("#measured");
    assert!(text.contains("This estimate") && text.contains("H100"), "{text}");
    let source = browser.value("document.querySelector('#measured a').href");
    assert!(source.as_str().expect("an address").starts_with("https://"), "{source}");
    browser.open(&format!("{}#model=8B", ui.address));
    browser.wait_for(SENTENCE, "8B");
    assert_eq!(browser.value("document.querySelector('#measured-section').hidden"), true);
}

#[test]
fn the_page_speaks_korean_and_keeps_light_and_dark() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    browser.choose("#language", "ko");
    browser.wait_for(SENTENCE, "필요합니다");
    assert_eq!(browser.value("document.documentElement.lang"), "ko");
    let english = browser.value(
        "[...document.querySelectorAll('[data-word]')].filter((e) => /^[A-Za-z ,…-]{4,}$/.test(e.textContent) && !['YAML', 'JSON'].includes(e.textContent)).map((e) => e.dataset.word)",
    );
    assert_eq!(english, serde_json::json!([]));
    browser.open(&ui.address);
    browser.wait_for(SENTENCE, "필요합니다");
    let background = |browser: &mut Browser| browser.value("getComputedStyle(document.body).backgroundColor");
    browser.scheme("light");
    let light = background(&mut browser);
    browser.scheme("dark");
    let dark = background(&mut browser);
    assert_ne!(light, dark);
    browser.choose("#theme", "light");
    assert_eq!(background(&mut browser), light);
}

#[test]
fn a_cluster_says_which_nodes_fit_why_and_what_if() {
    let ui = Ui::start(
        "--offline --snapshot examples/cluster.snapshot -f examples/llama-8b-fp16.yaml -f examples/too-large.yaml",
    );
    let mut browser = opened(&ui, "");
    browser.click("#to-cluster");
    browser.wait_for("#verdicts", "l4-1");
    assert!(hash(&mut browser).contains("view=cluster"));
    let objects = browser.text("#objects");
    assert!(objects.contains("llama-8b-fp16") && objects.contains("does not fit"), "{objects}");
    browser.click("#objects li:nth-child(2) button");
    browser.wait_for("#verdict", "4 of 8 nodes fit");
    let planned: Value = serde_json::from_str(
        &run("plan -f examples/llama-8b-fp16.yaml --snapshot examples/cluster.snapshot -o json").stdout,
    )
    .expect("JSON");
    let table = browser.text("#verdicts");
    for node in planned["results"][0]["nodes"].as_array().expect("nodes") {
        for part in ["name", "reason", "message"] {
            let said = node[part].as_str().expect("a text");
            assert!(table.contains(said), "{said}: {table}");
        }
    }
    browser.choose("#whatif-precision", "int4");
    browser.wait_for("#verdict", "6 of 8 nodes fit");
    browser.fill("#whatif-context", "131072");
    browser.wait("!document.querySelector('#verdict').innerText.includes('6 of 8')");
    // The model of the estimate, as it is on the other view.
    browser.click("#objects li:nth-child(1) button");
    browser.wait_for("#verdict-message", "21.4 GiB");
    assert!(browser.text("#pools").contains("NVIDIA-L4"));
    assert!(browser.text("#doctor").contains("Every label"));

    let ui = Ui::start("--offline --snapshot tests/fixtures/labels/lies.yaml");
    browser.open(&format!("{}#view=cluster", ui.address));
    browser.wait_for("#doctor", "nvidia.com/gpu.memory");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn everything_is_reached_by_keyboard_and_fits_a_phone() {
    let ui = Ui::start("--offline");
    let mut browser = opened(&ui, "");
    let mut reached = Vec::new();
    browser.value("document.activeElement.blur(), scrollTo(0, 0)");
    for _ in 0..70 {
        browser.press("Tab");
        let id = browser.value("document.activeElement.id || document.activeElement.name || document.activeElement.dataset.copy || document.activeElement.className || document.activeElement.tagName");
        reached.push(id.as_str().expect("a text").to_owned());
    }
    for wanted in [
        "model",
        "file",
        "link",
        "image",
        "task",
        "precision",
        "context",
        "context-slider",
        "tensor",
        "args",
        "margin",
        "card",
        "language",
        "theme",
    ] {
        assert!(reached.iter().any(|id| id == wanted), "{wanted} is not reached: {reached:?}");
    }
    browser.value("document.querySelector('[name=task]').focus()");
    browser.press("ArrowRight");
    browser.wait_for(SENTENCE, "Training");
    for width in [320, 390, 768, 1024] {
        browser.size(width, 800);
        let wide =
            browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "at {width} pixels it scrolls sideways");
    }
}
