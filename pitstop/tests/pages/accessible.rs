//! axe-core over every page, in light, in the dark and on a phone. And the pictures of the documentation.

use crate::browser::{Browser, Looks};
use crate::lab::Lab;
use crate::reading::busy;
use std::path::Path;

/// Where `.ci/setup test` puts it.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/axe.min.js");
/// Where pictures go, for whoever asks for them.
const PICTURES: &str = "PITSTOP_PICTURES";

const CHECK: &str = "
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const found = await axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']});
    return found.violations.map((one) => one.id + ': ' + one.help + ': ' + one.nodes.map((node) => node.html).join(' | ')).join('\\n');";

pub fn check(browser: &Browser, shown: &str) {
    let axe = std::fs::read_to_string(AXE).expect("axe-core is missing: .ci/setup test");
    browser.until("document.readyState === 'complete'");
    browser.js(&axe);
    let wrong = browser.js_async(CHECK, Vec::new());
    assert_eq!(wrong, "", "{shown}: {wrong}");
}

fn every_page(lab: &Lab, looks: Looks) {
    let browser = Browser::open(lab.server.http, looks);
    let run = browser_run(&browser);
    for path in [
        "/",
        "/machines/lab-1",
        "/machines/lab-2",
        "/machines/lab-3",
        "/machines/lab-4",
        "/machines/lab-5?done=set",
        "/machines/nobody",
        "/queue",
        "/images",
        "/images/10.0.0.14/sda.raw.gz",
        "/runs",
        &run,
        "/fleet",
        "/fleet?machine=lab-1",
        "/inventory",
        "/inventory?q=ram<8GX",
        "/browse/10.0.0.14/sda.raw.gz",
        "/browse/10.0.0.14/sda.raw.gz/files/1",
        "/people",
        "/machines/lab-6",
    ] {
        browser.go(path);
        check(&browser, &format!("{path}, {looks:?}"));
    }
    // What is folded up is a part of the page, too.
    browser.go("/machines/lab-4");
    browser.js("for (const one of document.querySelectorAll('details')) one.open = true");
    check(&browser, "the forms of a machine");
    let wide = browser
        .js("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wide, 0, "the page is wider than its window");
}

/// The page of the newest run.
fn browser_run(browser: &Browser) -> String {
    browser.go("/runs");
    browser.click("#runs th a");
    browser.arrives_below("/runs/");
    browser.path()
}

#[test]
fn axe_finds_nothing_in_light() {
    every_page(&busy(), Looks::default());
}

#[test]
fn axe_finds_nothing_in_the_dark() {
    let looks = Looks {
        dark: true,
        ..Looks::default()
    };
    let lab = busy();
    every_page(&lab, looks);
    let browser = Browser::open(lab.server.http, looks);
    browser.go("/");
    assert_eq!(
        browser.js("return matchMedia('(prefers-color-scheme: dark)').matches"),
        true
    );
}

#[test]
fn axe_finds_nothing_on_a_phone() {
    let looks = Looks {
        phone: true,
        ..Looks::default()
    };
    every_page(&busy(), looks);
}

#[test]
fn the_log_in_is_accessible() {
    let lab = Lab::new();
    let browser = Browser::open(lab.server.http, Looks::default());
    crate::access::user(&lab, "anna", "admin");
    browser.go("/");
    assert!(browser.path().starts_with("/login"));
    check(&browser, "/login");
}

/// Writes docs/pictures anew: `PITSTOP_PICTURES=docs/pictures cargo test -p pitstop --test pages pictures`.
#[test]
fn pictures_for_the_documentation() {
    let lab = busy();
    for (name, path, dark) in [
        ("machines", "/", false),
        ("machine", "/machines/lab-4", false),
        ("machines-dark", "/", true),
    ] {
        let browser = Browser::open(
            lab.server.http,
            Looks {
                dark,
                ..Looks::default()
            },
        );
        browser.go(path);
        browser.until("document.getElementById('live').dataset.state === 'on'");
        let picture = browser.picture();
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(folder) = std::env::var_os(PICTURES) {
            // Cargo runs tests in the crate's folder.
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(folder);
            std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        }
    }
}
