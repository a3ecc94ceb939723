//! What pages show, with JavaScript and without.

use crate::browser::{Browser, Looks};
use crate::lab::{Lab, Machine};

pub const WITHOUT_SCRIPT: Looks = Looks {
    dark: false,
    phone: false,
    without_script: true,
};

/// One machine that failed, one at work, one that waits, and an image that was made by the real program.
pub fn busy() -> Lab {
    busy_with().0
}

/// The same, and the one at work. What has not reported for three minutes is taken for lost.
fn busy_with() -> (Lab, Machine) {
    let lab = Lab::new();
    lab.image("10.0.0.14");
    let mut first = lab.set("lab-1", "backup");
    first.begin(&lab.server, "backup");
    first.log(&lab.server, "/dev/sda: 1.2 GiB of 4.0 GiB in use");
    first.end(&lab.server, "backup", Some("the share is full"));
    let mut second = lab.set("lab-2", "backup");
    second.begin(&lab.server, "backup");
    second.log(&lab.server, "reading the partition table");
    second.progress(&lab.server, "backup", 37);
    lab.set("lab-3", "refresh-info");
    (lab, second)
}

#[test]
fn every_page_shows_what_it_is_for_without_javascript() {
    let (lab, mut second) = busy_with();
    let browser = Browser::open(lab.server.http, WITHOUT_SCRIPT);
    let mut at_work = || second.progress(&lab.server, "backup", 37);
    at_work();
    browser.go("/");
    let rows = browser.text("#machines");
    let at = |text: &str| {
        rows.find(text)
            .unwrap_or_else(|| panic!("no {text} in {rows}"))
    };
    assert!(
        at("lab-1") < at("lab-2") && at("lab-2") < at("lab-3"),
        "{rows}"
    );
    assert!(at("the share is full") < at("37 %"), "{rows}");
    let summary = browser.text("#summary").replace('\n', " ");
    assert!(summary.contains("1 failed"), "{summary}");

    browser.type_into("#filter", "lab-2");
    browser.click(".find button");
    browser.arrives("/?q=lab-2");
    assert_eq!(browser.count("#machines tbody tr:not([hidden])"), 1);

    at_work();
    browser.click("#m-lab-2 a");
    browser.arrives("/machines/lab-2");
    let page = browser.text("main");
    for text in [
        "Now: backup",
        "37 %",
        "reading the partition table",
        "QM00002",
        "10.0.0.12",
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }

    browser.go("/machines/lab-4");
    let page = browser.text("#disk-list");
    assert!(page.contains("ext4") && page.contains("root"), "{page}");
    assert_eq!(browser.count("#disk-list figure > svg"), 1);

    browser.go("/images");
    assert!(browser.text("#images").contains("10.0.0.14/sda.raw.gz"));
    browser.click("#images th a");
    browser.arrives("/images/10.0.0.14/sda.raw.gz");
    assert!(browser.text("main").contains("ext4"));

    at_work();
    browser.go("/queue");
    assert!(browser.text("#running").contains("lab-2"));
    assert!(browser.text("#waiting").contains("lab-3"));

    browser.go("/runs");
    browser.click("#runs th a");
    browser.arrives_below("/runs/20261129-010000-");
    assert!(browser.text("main").contains("reading the partition table"));

    browser.go("/fleet?machine=lab-1");
    let settings = browser.text("main");
    for text in ["attempts", "base", "group.lab", "10.0.0.0/24"] {
        assert!(settings.contains(text), "no {text} in {settings}");
    }

    browser.go("/machines/nobody");
    assert!(browser.text("main").contains("nobody"));
}

#[test]
fn forms_work_without_javascript() {
    let lab = busy();
    let browser = Browser::open(lab.server.http, WITHOUT_SCRIPT);
    browser.go("/machines/lab-5");
    browser.click("form:has(input[value=refresh-info]) button");
    browser.arrives("/machines/lab-5?done=set");
    assert!(browser.text(".note.good").contains("The job is set"));
    assert_eq!(lab.state("lab-5"), "waiting");

    // What loses data wants the name, and what is typed wrong changes nothing.
    browser.go("/machines/lab-4");
    browser.click("details:has(input[value=wipe]) summary");
    let lost = browser.text("details:has(input[value=wipe]) .lost");
    assert!(lost.contains("sda"), "{lost}");
    browser.type_into("#confirm-wipe", "lab-5");
    browser.click("form:has(#confirm-wipe) button");
    assert!(
        browser
            .text(".note.bad")
            .contains("type the machine's name: lab-4")
    );
    browser.click("details:has(input[value=wipe]) summary");
    browser.type_into("#confirm-wipe", "lab-4");
    browser.click("form:has(#confirm-wipe) button");
    browser.arrives("/machines/lab-4?done=set");
    assert_eq!(lab.state("lab-4"), "waiting");

    browser.click("#job-now button");
    browser.arrives("/machines/lab-4?done=cancelled");
    assert_eq!(lab.state("lab-4"), "cancelled");
}

#[test]
fn what_a_machine_calls_itself_is_never_markup() {
    let lab = Lab::new();
    let hostile =
        "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">";
    let mut machine = lab.set("lab-1", "backup");
    machine.check_in(&lab.server, "\"state\":\"ready\"");
    let name = serde_json::Value::from(hostile);
    machine.tell(
        &lab.server,
        &format!("\"type\":\"begin\",\"machine\":{name},\"address\":\"10.0.0.99\",\"mac\":\"52:54:00:00:00:99\",\"pitstop\":{name}"),
    );
    machine.log(&lab.server, hostile);
    machine.end(&lab.server, "backup", Some(hostile));
    let browser = Browser::open(lab.server.http, Looks::default());
    for path in [
        "/",
        "/machines/lab-1",
        "/machines/10.0.0.99",
        "/runs",
        &format!("/runs/{}", machine.run),
        "/queue",
    ] {
        browser.go(path);
        browser.until("document.readyState === 'complete'");
        assert_ne!(browser.js("return document.title"), "owned", "{path}");
        assert_eq!(browser.count("main img, main script"), 0, "{path}");
    }
    browser.go(&format!("/runs/{}", machine.run));
    assert!(browser.text("main").contains("<script>"));
    // What comes by the stream is text as well.
    browser.go("/");
    machine.log(&lab.server, hostile);
    assert_ne!(browser.js("return document.title"), "owned");
}
