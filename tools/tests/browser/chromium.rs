//! A Chromium without a window, which is told what to do by messages over two pipes: each is one object of JSON, and ends with a
//! zero.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use esker::dump::base64_bytes;
use serde_json::{Value, json};

/// So long it may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_dark: bool,
}

/// The program, if there is one.
pub(crate) fn program() -> Option<&'static str> {
    let is_there = |name: &&str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there)
}

/// True where it is no excuse that there is none.
pub(crate) fn is_required() -> bool {
    std::env::var("ESKER_BROWSER").is_ok_and(|how| how == "required")
}

pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// How many messages were sent.
    sent: u64,
    session: Option<String>,
    said: Vec<String>,
}

impl Browser {
    pub(crate) fn start(program: &str, directory: &Path) -> Self {
        // It reads from descriptor 3 and writes to 4.
        let script = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
        let mut child = Command::new("sh")
            .args([
                "-c",
                script,
                "sh",
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, sent: 0, session: None, said: Vec::new() };
        let page = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = browser.ask("Target.attachToTarget", json!({ "targetId": page, "flatten": true }));
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.ask(domain, json!({}));
        }
        browser
    }

    /// Asks for something, and waits for the answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(&[message.to_string().as_bytes(), b"\0"].concat()).unwrap();
        let answer = self.wait(method, |message, sent| message["id"] == sent);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// The next message that is waited for; what the page says meanwhile is kept.
    fn wait(&mut self, what: &str, is_it: impl Fn(&Value, u64) -> bool) -> Value {
        loop {
            let message = self.from.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|error| panic!("Chromium does not answer {what}: {error}"));
            let is_said = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
            if is_said.iter().any(|method| message["method"] == *method) {
                self.said.push(message["params"].to_string());
            }
            if is_it(&message, self.sent) {
                return message;
            }
        }
    }

    /// Opens a page, and answers what the script says of it.
    pub(crate) fn look(&mut self, page: &Path, view: &View, script: &str) -> String {
        let size = json!({ "width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let scheme = if view.is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", media);
        self.said.clear();
        // The event may come before the answer.
        self.ask("Page.navigate", json!({ "url": "about:blank" }));
        self.ask("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        let is_loaded = json!({ "expression": "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))", "awaitPromise": true });
        self.ask("Runtime.evaluate", is_loaded);
        let said = self.ask("Runtime.evaluate", json!({ "expression": script, "returnByValue": true }));
        said["result"]["value"].as_str().unwrap_or_else(|| panic!("the script failed: {said}")).to_owned()
    }

    /// What the page has said on the console since it was opened.
    pub(crate) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// All of the page that is looked at, as a PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let shot =
            self.ask("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        base64_bytes(shot["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The shell has become the browser, which ends its own children.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
