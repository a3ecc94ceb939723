//! A browser that a test drives. It is ended with its test, however that ends.

use crate::common::PATIENCE;
use fantoccini::actions::{
    InputSource, KeyAction, KeyActions, MOUSE_BUTTON_LEFT, MouseActions, PointerAction,
};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use pitstop_testing::running::Running;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How a page is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looks {
    pub dark: bool,
    pub phone: bool,
    pub without_script: bool,
}

impl Looks {
    fn capabilities(self, profile: &TempDir) -> Value {
        let size = if self.phone { "390,844" } else { "1280,900" };
        let mut args = vec![
            "--headless=new".to_owned(),
            // The tests run as root.
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--hide-scrollbars".into(),
            "--no-first-run".into(),
            "--lang=en-GB".into(),
            format!("--window-size={size}"),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        if self.dark {
            args.push("--blink-settings=preferredColorScheme=0".into());
        }
        let script = if self.without_script { 2 } else { 1 };
        // In milliseconds. A script has half a minute otherwise.
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap();
        json!({
            "goog:chromeOptions": {
                "args": args,
                "prefs": {"profile.managed_default_content_settings.javascript": script},
            },
            "timeouts": {"script": patience, "pageLoad": patience},
        })
    }
}

/// A driver, and its port. It looks for a free one and may lose it to another program before it listens: then it ends.
fn driver() -> (Running, u16) {
    for _ in 0..5 {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: .ci/setup test");
        let mut driver = Running::new(driver);
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        if let Some(port) = port {
            std::thread::spawn(move || lines.for_each(drop));
            return (driver, port);
        }
        driver.wait().unwrap();
    }
    panic!("chromedriver did not say its port, five times");
}

pub struct Browser {
    runtime: Runtime,
    client: Option<Client>,
    _driver: Running,
    site: String,
    _profile: TempDir,
}

impl Browser {
    /// Opens a browser for the server at `site`.
    pub fn open(site: impl std::fmt::Display, looks: Looks) -> Self {
        let mut failed = String::new();
        // On a busy computer Chromium may not be there when its driver gives it up.
        for _ in 0..5 {
            match Self::try_open(&site, looks) {
                Ok(browser) => return browser,
                Err(why) => failed = why,
            }
        }
        panic!("Chromium did not start, five times: {failed}");
    }

    fn try_open(site: impl std::fmt::Display, looks: Looks) -> Result<Self, String> {
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = driver();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let Value::Object(capabilities) = looks.capabilities(&profile) else {
            unreachable!("it is an object")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{port}");
        let client = runtime.block_on(async {
            tokio::time::timeout(3 * PATIENCE, builder.connect(&address)).await
        });
        let client = client.map_err(|_| "its driver does not answer".to_owned())?;
        Ok(Self {
            runtime,
            client: Some(client.map_err(|error| error.to_string())?),
            _driver: driver,
            site: format!("http://{site}"),
            _profile: profile,
        })
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    fn wait<T, E: std::fmt::Debug>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> T {
        let timed = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, work).await });
        timed
            .unwrap_or_else(|_| panic!("{what}: the browser does not answer"))
            .unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Goes to a page.
    pub fn go(&self, path: &str) {
        let url = format!("{}{path}", self.site);
        self.wait(&url, self.client().goto(&url));
    }

    pub fn path(&self) -> String {
        let url = self.wait("the address", self.client().current_url());
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }

    /// Waits until the page is this one: a click may lead there a moment later.
    pub fn arrives(&self, path: &str) {
        self.arrives_where(path, |now| now == path);
    }

    /// The same, of a page whose path begins so.
    pub fn arrives_below(&self, path: &str) {
        self.arrives_where(path, |now| now.starts_with(path));
    }

    fn arrives_where(&self, path: &str, is_there: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !is_there(&self.path()) {
            assert!(
                began.elapsed() < PATIENCE,
                "{path} did not come, but {}:\n{}",
                self.path(),
                self.text("main")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a function with this body returns in the page.
    pub fn js(&self, body: &str) -> Value {
        self.wait(body, self.client().execute(body, Vec::new()))
    }

    /// What an async function with this body returns in the page.
    pub fn js_async(&self, body: &str, args: Vec<Value>) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {body} }})().then(done, (e) => done('' + e));"
        );
        self.wait("a script", self.client().execute_async(&script, args))
    }

    /// Waits until this JavaScript is true.
    pub fn until(&self, condition: &str) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // A page that is just being left has nothing to say.
            let body = format!("return Boolean({condition})");
            let now = self
                .runtime
                .block_on(self.client().execute(&body, Vec::new()));
            if now.is_ok_and(|now| now == true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "{condition} did not come true at {}:\n{}",
            self.path(),
            self.text("main")
        );
    }

    /// The element, which may be a moment away.
    async fn find(&self, css: &str) -> Result<Element, CmdError> {
        let client = self.client().wait().at_most(PATIENCE / 2);
        client.for_element(Locator::Css(css)).await
    }

    /// Does something with the element. One that was replaced between being found and being used is looked for again.
    fn with<T>(&self, css: &str, act: impl AsyncFn(Element) -> Result<T, CmdError>) -> T {
        self.wait(css, async {
            loop {
                match act(self.find(css).await?).await {
                    Err(error)
                        if error.is_stale_element_reference()
                            || error.is_element_not_interactable() =>
                    {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    done => return done,
                }
            }
        })
    }

    pub fn text(&self, css: &str) -> String {
        self.with(css, async |element| element.text().await)
    }

    pub fn count(&self, css: &str) -> usize {
        self.wait(css, self.client().find_all(Locator::Css(css)))
            .len()
    }

    pub fn click(&self, css: &str) {
        self.with(css, async |element| element.click().await);
    }

    pub fn type_into(&self, css: &str, text: &str) {
        self.with(css, async |element| element.send_keys(text).await);
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &[Key]) {
        for key in keys {
            let actions = KeyActions::new("keyboard".into())
                .then(KeyAction::Down {
                    value: (*key).into(),
                })
                .then(KeyAction::Up {
                    value: (*key).into(),
                });
            self.wait("a key", self.client().perform_actions(actions));
        }
    }

    /// Types where the focus is.
    pub fn keys(&self, text: &str) {
        for value in text.chars() {
            let actions = KeyActions::new("keyboard".into())
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
            self.wait("a key", self.client().perform_actions(actions));
        }
    }

    /// Drags with the mouse, from the middle of one element to the upper part of another.
    pub fn drag(&self, from: &str, to: &str) {
        let place = |css: &str| {
            let (x, y, width, height) = self.wait(css, async {
                self.client()
                    .find(Locator::Css(css))
                    .await?
                    .rectangle()
                    .await
            });
            (x + width / 2.0, y + height / 2.0)
        };
        let (from, to) = (place(from), place(to));
        let still = Some(Duration::from_millis(100));
        let to_point = |(x, y): (f64, f64)| PointerAction::MoveTo {
            duration: still,
            x,
            y,
        };
        let button = MOUSE_BUTTON_LEFT;
        let actions = MouseActions::new("mouse".into())
            .then(to_point(from))
            .then(PointerAction::Down { button })
            .then(to_point((from.0 + 5.0, from.1 + 5.0)))
            .then(to_point(to))
            .then(to_point((to.0 + 2.0, to.1)))
            .then(PointerAction::Up { button });
        self.wait("dragging", self.client().perform_actions(actions));
    }

    pub fn picture(&self) -> Vec<u8> {
        self.wait("a picture", self.client().screenshot())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let closed = async { tokio::time::timeout(PATIENCE, client.close()).await };
            // Whatever it answers: its driver is ended with this value.
            let _ = self.runtime.block_on(closed);
        }
    }
}
