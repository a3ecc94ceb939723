//! What machines are, what is in images, who the people are: with forms and links alone, without JavaScript.

use crate::access::{log_in, user};
use crate::accessible::check;
use crate::browser::{Browser, Looks};
use crate::lab::Lab;
use crate::reading::WITHOUT_SCRIPT;
use std::fs;

const FACTS: &str = r#"{
  "version": 1, "taken": "2026-03-01T12:00:00Z", "pitstop": "0.2.0",
  "name": "lab-5", "address": "10.0.0.15", "mac": "52:54:00:00:00:15",
  "system": {"vendor": "Dell Inc.", "product": "OptiPlex 7050", "serial": "X9"},
  "ram": {"installed": 4294967296},
  "disks": [{"device": "nvme0n1", "model": "Samsung SSD", "serial": "S3Z8NB0K", "size": 500107862016, "health": "ok"},
            {"device": "sdz", "model": "Stick", "serial": "U1", "size": 1000000000, "removable": true}]
}"#;

#[test]
fn machines_are_found_by_what_they_are() {
    let lab = Lab::new();
    let folder = lab.root().join("share/10.0.0.15");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("inventory.json"), FACTS).unwrap();
    let browser = Browser::open(lab.server.http, WITHOUT_SCRIPT);
    crate::common::wait_until("the share was looked at", || {
        browser.go("/inventory");
        browser.text("main").contains("OptiPlex")
    });
    browser.type_into("#q", "ram<8GiB");
    browser.click(".find button");
    browser.arrives("/inventory?q=ram%3C8GiB");
    assert!(browser.text("#inventory").contains("lab-5"));
    browser.click("#inventory th a");
    browser.arrives("/machines/lab-5");
    let facts = browser.text("#facts");
    assert!(facts.contains("Dell Inc. OptiPlex 7050"), "{facts}");
    // The disks of a wipe are those that it told, and not what was plugged in.
    browser.click("details:has(input[value=wipe]) summary");
    let lost = browser.text("details:has(input[value=wipe]) .lost");
    assert!(
        lost.contains("S3Z8NB0K") && !lost.contains("Stick"),
        "{lost}"
    );

    browser.go("/inventory?q=ram%3C8GX");
    let wrong = browser.text("#wrong");
    assert!(wrong.contains("8GX") && wrong.contains("^^^"), "{wrong}");
}

/// Asks for a wipe as a form does whose page named no disk. Returns the page that answers.
fn wipe(lab: &Lab) -> String {
    let form = "action=wipe&method=zero&confirm=lab-6&disks=";
    let headers = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        form.len()
    );
    let path = "/machines/lab-6/job";
    let answer = lab.server.request("POST", path, &headers, form.as_bytes());
    assert_eq!(answer.status, 409, "{answer:?}");
    answer.text()
}

#[test]
fn a_disk_that_the_page_did_not_name_is_not_wiped() {
    let lab = Lab::new();
    lab.image("10.0.0.16");
    let answer = wipe(&lab);
    let told = "disks are not those that the page named";
    assert!(answer.contains(told), "{answer}");
}

#[test]
fn a_machine_of_which_no_disk_is_known_is_not_wiped() {
    let lab = Lab::new();
    let browser = Browser::open(lab.server.http, WITHOUT_SCRIPT);
    browser.go("/machines/lab-6");
    browser.click("details:has(p):nth-of-type(2) summary");
    let told = "No disk of it is known: boot it once into refresh-info";
    assert!(browser.text(".acts").contains(told));
    assert_eq!(browser.count("#confirm-wipe"), 0);
    let answer = wipe(&lab);
    assert!(answer.contains(told), "{answer}");
    browser.click(".ask form:has(input[value=refresh-info]) button");
    browser.arrives("/machines/lab-6?done=set");
}

#[test]
fn images_are_looked_into() {
    let lab = Lab::new();
    lab.image("10.0.0.14");
    user(&lab, "anna", "admin");
    user(&lab, "vera", "viewer");
    let browser = Browser::open(lab.server.http, WITHOUT_SCRIPT);
    browser.go("/images/10.0.0.14/sda.raw.gz");
    log_in(&browser, "vera");
    browser.click("a[href^='/browse/']");
    assert!(browser.text("#volumes").contains("ext4"));
    browser.click("#volumes th a");
    browser.arrives("/browse/10.0.0.14/sda.raw.gz/files/1");
    assert!(browser.text("#entries").contains("lost+found"));
    browser.click("#entries th a");
    browser.arrives("/browse/10.0.0.14/sda.raw.gz/files/1/lost%2Bfound");
    browser.go("/browse/10.0.0.14/sda.raw.gz/files/1/nothing");
    assert!(browser.text("main").contains("nothing"));
    browser.go("/people");
    assert!(browser.text("body").contains("this is for admins"));
    assert_eq!(browser.count("a[href='/people']"), 0);
}

#[test]
fn admins_add_and_remove_people() {
    let lab = Lab::new();
    user(&lab, "anna", "admin");
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/people");
    log_in(&browser, "anna");
    browser.until("location.pathname === '/people'");
    browser.type_into("#name", "otto");
    browser.type_into("#password", " with spaces ");
    browser.click("form[action='/people/users'] button");
    browser.until("location.search === '?done=added'");
    let users = browser.text("#users");
    assert!(
        users.contains("otto") && users.contains("viewer"),
        "{users}"
    );

    check(&browser, "/people");
    browser.type_into("#expires", "90d");
    browser.click("form[action='/people/tokens'] button");
    browser.until("document.getElementById('secret')");
    check(&browser, "/people with a token");
    let secret = browser.text("#secret code");
    let headers = format!("Authorization: Bearer {secret}\r\n");
    let answer = lab.server.request("GET", "/api/v1/users", &headers, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    browser.click("#tokens button");
    browser.until("location.search === '?done=revoked'");
    assert!(browser.text("#tokens").contains("None"));

    browser.click("button[aria-label='Remove the user otto']");
    browser.until("location.search === '?done=removed'");
    // Somebody has to be left.
    browser.click("button[aria-label='Remove the user anna']");
    browser.until("document.querySelector('.note.bad')");
    assert!(browser.text("#users").contains("anna"));
}
