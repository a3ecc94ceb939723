//! The order of the queue: by buttons, by the keyboard alone, by dragging.

use crate::browser::{Browser, Looks};
use crate::lab::Lab;
use fantoccini::key::Key;

/// Three jobs that wait, in the order in which they were set.
fn waiting() -> Lab {
    let lab = Lab::new();
    for machine in ["lab-1", "lab-2", "lab-3"] {
        lab.set(machine, "backup");
    }
    lab
}

fn order(browser: &Browser) -> String {
    let names = "return [...document.querySelectorAll('#waiting tr[data-name]')].map(r => r.dataset.name).join(' ')";
    browser.js(names).as_str().unwrap().to_owned()
}

fn until_order(browser: &Browser, wanted: &str) {
    browser.until(&format!(
        "[...document.querySelectorAll('#waiting tr[data-name]')].map(r => r.dataset.name).join(' ') === '{wanted}'"
    ));
}

#[test]
fn a_job_is_dragged_to_another_place() {
    let lab = waiting();
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/queue");
    until_order(&browser, "lab-1 lab-2 lab-3");
    browser.drag("tr[data-name=lab-3] .handle", "tr[data-name=lab-1]");
    until_order(&browser, "lab-3 lab-1 lab-2");
    browser.until("document.getElementById('said').textContent.includes('lab-3 was moved')");
    browser.go("/queue");
    assert_eq!(order(&browser), "lab-3 lab-1 lab-2");
}

#[test]
fn a_job_is_moved_set_and_cancelled_by_the_keyboard_alone() {
    let lab = waiting();
    lab.image("10.0.0.16");
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/queue");
    // The first stop is the way to the content.
    browser.press(&[Key::Tab]);
    assert_eq!(
        browser.js("return document.activeElement.className"),
        "skip"
    );
    browser.press(&[Key::Enter]);
    let down = "document.activeElement.getAttribute('aria-label') === 'Move lab-1 down'";
    tab_to(&browser, down);
    browser.press(&[Key::Enter]);
    until_order(&browser, "lab-2 lab-1 lab-3");
    browser.until("document.getElementById('said').textContent.includes('lab-1 is number 2 now')");
    // The focus went with it.
    browser.until(down);
    browser.press(&[Key::Enter]);
    until_order(&browser, "lab-2 lab-3 lab-1");
    browser.until("document.activeElement.closest('tr')?.dataset.name === 'lab-1'");

    browser.go("/machines/lab-6");
    tab_to(&browser, "document.activeElement.textContent === 'Wipe…'");
    browser.press(&[Key::Enter]);
    tab_to(&browser, "document.activeElement.id === 'confirm-wipe'");
    let disabled = "return document.querySelector('form:has(#confirm-wipe) button').disabled";
    assert_eq!(browser.js(disabled), true);
    browser.keys("lab-6");
    assert_eq!(browser.js(disabled), false);
    browser.press(&[Key::Enter]);
    browser.until("location.search === '?done=set'");
    assert_eq!(lab.state("lab-6"), "waiting");
    tab_to(
        &browser,
        "document.activeElement.textContent.startsWith('Cancel the job')",
    );
    browser.press(&[Key::Enter]);
    browser.until("location.search === '?done=cancelled'");
    assert_eq!(lab.state("lab-6"), "cancelled");
}

/// Presses Tab until the focus is where it is wanted.
fn tab_to(browser: &Browser, wanted: &str) {
    for _ in 0..60 {
        browser.press(&[Key::Tab]);
        if browser.js(&format!("return {wanted}")) == true {
            return;
        }
    }
    panic!("the keyboard does not get to: {wanted}");
}

#[test]
fn every_button_of_the_queue_and_the_images_does_what_it_says() {
    let lab = waiting();
    lab.image("10.0.0.14");
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/queue");
    browser.click("tr[data-name=lab-2] button[data-way=up]");
    until_order(&browser, "lab-2 lab-1 lab-3");
    browser.click("tr[data-name=lab-2] button.danger");
    browser.until("location.search === '?done=cancelled'");
    assert_eq!(lab.state("lab-2"), "cancelled");

    browser.go("/images");
    browser.click("#images form button");
    browser.until("location.search === '?done=verifying'");
    browser.until("document.querySelector('#images .tag.good')?.innerText.includes('good')");
}

#[test]
fn every_button_of_a_machine_does_what_it_says() {
    let lab = Lab::new();
    lab.image("10.0.0.14");
    let browser = Browser::open(lab.server.http, Looks::default());
    // There is an image: a first backup would be refused, and says so.
    browser.go("/machines/lab-4");
    browser.click("form:has(input[value=backup]) button");
    browser.until("document.querySelector('.note.bad')?.innerText.includes('sda.raw.gz')");
    for (action, path) in [
        ("backup-again", "lab-4"),
        ("refresh-info", "lab-5"),
        ("rescue", "lab-6"),
        ("backup", "lab-3"),
    ] {
        browser.go(&format!("/machines/{path}"));
        browser.click(&format!("form:has(input[value={action}]) button"));
        browser.until("location.search === '?done=set'");
        assert!(lab.does(&["job", "show", path]).contains(action));
    }
    browser.go("/machines/lab-4");
    browser.click("details:has(input[value=restore]) summary");
    browser.type_into("#confirm-restore", "lab-4");
    browser.click("form:has(#confirm-restore) button");
    browser.until("location.search === '?done=set'");
    assert!(lab.does(&["job", "show", "lab-4"]).contains("restore"));
}
