//! A real Chromium, driven over its own protocol through a pair of pipes: no driver of another project, and no port.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long something on a page may take to become true, on a machine that has more to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// One at a time: two browsers side by side take longer than one after the other.
static ONE: Mutex<()> = Mutex::new(());

/// A browser of its own, with one page.
pub(super) struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    profile: tempfile::TempDir,
    last: u64,
    session: String,
    events: VecDeque<Value>,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts it: `CHROMIUM`, or the one on the path.
    pub(super) fn start() -> Self {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = tempfile::tempdir().expect("a directory");
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        // The protocol is on the descriptors 3 and 4, which a shell can give it.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null", &program])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--disable-gpu",
                "--hide-scrollbars",
                "--mute-audio",
            ])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
                "--disable-sync",
            ])
            // As root there is no sandbox to be had; what is shown is this project's own page.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--lang=en-US"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut browser = Self {
            child,
            input,
            output,
            profile,
            last: 0,
            session: String::new(),
            events: VecDeque::new(),
            _turn: turn,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser.call("Page.enable", json!({}));
        browser.call("Runtime.enable", json!({}));
        browser.call("Log.enable", json!({}));
        browser.size(1280, 900);
        browser
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.output.read_until(0, &mut message).expect("a message");
        assert!(
            message.pop() == Some(0),
            "Chromium is not there, or has ended: it must be on the path, or named by CHROMIUM (`apt-get install chromium`)"
        );
        serde_json::from_slice(&message).expect("JSON")
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub(super) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method});
        message["params"] = parameters;
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).expect("it is sent");
        loop {
            let mut answer = self.receive();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push_back(answer);
        }
    }

    /// The value of an expression in the page, promises awaited.
    #[track_caller]
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let mut result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// The text of an element, as it is shown.
    #[track_caller]
    pub(super) fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!(
            "(document.querySelector({selector:?})?.innerText ?? '').replaceAll('\\u00a0', ' ')"
        ));
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(super) fn wait(&mut self, expression: &str) {
        let since = Instant::now();
        // The page says when: asked at every frame of its own.
        let until = format!(
            "new Promise((done) => {{ const end = performance.now() + 1000; const look = () => ({expression}) ? done(true) : performance.now() > end ? done(false) : setTimeout(look, 16); look(); }})"
        );
        while self.value(&until) != true {
            if since.elapsed() > PATIENCE {
                let shown = self.value("[...document.querySelectorAll('.sentence, .problem, #verdict-message')].map((e) => e.innerText).join('\\n') + location.href");
                panic!("never true: {expression}\n{}", shown.as_str().unwrap_or_default());
            }
        }
    }

    /// Waits until the text of an element has something in it.
    #[track_caller]
    pub(super) fn wait_for(&mut self, selector: &str, text: &str) {
        self.wait(&format!("(document.querySelector({selector:?})?.innerText ?? '').replaceAll('\\u00a0', ' ').includes({text:?})"));
    }

    /// Opens an address, and waits until it has loaded.
    #[track_caller]
    pub(super) fn open(&mut self, address: &str) {
        // Another page between, so that an address that differs after its # is loaded too.
        self.call("Page.navigate", json!({"url": "about:blank"}));
        self.call("Page.navigate", json!({"url": address}));
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'");
    }

    /// Presses a key, named as the protocol names it.
    pub(super) fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Escape" => 27,
            "ArrowDown" => 40,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowLeft" => 37,
            "End" => 35,
            "Home" => 36,
            " " => 32,
            other => panic!("no code for {other}"),
        };
        let text = match key {
            "Enter" => "\r",
            " " => " ",
            _ => "",
        };
        let mut down = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code});
        if !text.is_empty() {
            down["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}),
        );
    }

    /// Types into an element, in place of what is there.
    #[track_caller]
    pub(super) fn fill(&mut self, selector: &str, text: &str) {
        self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.focus(); e.select(); }})()"
        ));
        if text.is_empty() {
            self.value(&format!(
                "(() => {{ const e = document.querySelector({selector:?}); e.value = ''; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
            ));
        } else {
            self.call("Input.insertText", json!({"text": text}));
        }
    }

    /// Chooses an option of a select, or moves a slider.
    #[track_caller]
    pub(super) fn choose(&mut self, selector: &str, value: &str) {
        self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.value = {value:?}; if (e.value !== {value:?}) throw Error('no option'); e.dispatchEvent(new Event('input', {{bubbles: true}})); e.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        ));
    }

    /// Clicks in the middle of an element.
    #[track_caller]
    pub(super) fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}),
            );
        }
    }

    /// Gives a file to an element that takes one.
    #[track_caller]
    pub(super) fn give(&mut self, selector: &str, path: &str) {
        let found = self
            .call("Runtime.evaluate", json!({"expression": format!("document.querySelector({selector:?})")}));
        let object = found["result"]["objectId"].clone();
        self.call("DOM.setFileInputFiles", json!({"objectId": object, "files": [path]}));
    }

    /// The size of the window.
    pub(super) fn size(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
    }

    /// Whether the system asks for dark colours.
    pub(super) fn scheme(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The page as a PNG: what the window shows.
    pub(super) fn picture(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"}));
        STANDARD.decode(taken["data"].as_str().expect("an image")).expect("base64")
    }

    /// What the page's scripts and the browser itself complained of since it was asked last.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        self.value("0");
        let is = |event: &Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            _ => false,
        };
        self.events.drain(..).filter(is).map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its helpers end on their own when it has; the directory may be written to until then.
        let _ = self.profile.path();
    }
}
