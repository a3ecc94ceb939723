//! `pitstop inventory`, with and without a server.

mod common;

use common::{Server, run, wait_until};
use std::fs;
use std::path::Path;

const FACTS: &str = r#"{
  "version": 1, "taken": "2026-03-01T12:00:00Z", "pitstop": "0.2.0",
  "name": "lab3-01", "address": "10.0.2.15", "mac": "52:54:00:12:34:56",
  "system": {"vendor": "Dell Inc.", "product": "OptiPlex 7050", "serial": "=1+1"},
  "ram": {"installed": 4294967296},
  "disks": [{"device": "sda", "model": "Samsung SSD 860 EVO", "serial": "S3Z8NB0K", "size": 500107862016, "health": "ok"}]
}"#;

/// What the machine at 10.0.2.15 wrote on the share at refresh-info.
fn says(root: &Path, facts: &str) {
    let folder = root.join("share/10.0.2.15");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("inventory.json"), facts).unwrap();
}

fn inventory(root: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let all = ["inventory"].iter().chain(arguments).copied();
    let all: Vec<&str> = all.chain(["--root", root.to_str().unwrap()]).collect();
    let output = run(&all);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn machines_are_searched_and_compared_without_a_server() {
    let root = tempfile::tempdir().unwrap();
    let (status, text, _) = inventory(root.path(), &[]);
    assert_eq!(
        (status, text.starts_with("No machine is known yet")),
        (Some(0), true),
        "{text}"
    );
    says(root.path(), FACTS);
    let (status, text, told) = inventory(root.path(), &["ram<8GiB disk.model~\"EVO\""]);
    assert_eq!(status, Some(0), "{told}");
    assert!(text.contains("lab3-01  Dell Inc. OptiPlex 7050"), "{text}");
    assert!(text.contains("1 (465.7 GiB)  ok"), "{text}");
    assert_eq!(
        inventory(root.path(), &["ram>8GiB"]).1,
        "None of 1 machines\n"
    );

    says(
        root.path(),
        &FACTS
            .replace("2026-03-01", "2026-03-02")
            .replace("4294967296", "17179869184"),
    );
    let (_, text, _) = inventory(root.path(), &["diff", "lab3-01"]);
    assert!(text.ends_with("\n  ram: 16.0 GiB, was 4.0 GiB\n"), "{text}");
    let (_, text, _) = inventory(root.path(), &["history", "10.0.2.15"]);
    assert_eq!(
        text.lines().filter(|line| line.contains("ram:")).count(),
        1,
        "{text}"
    );
    let (_, text, _) = inventory(root.path(), &["show", "52:54:00:12:34:56"]);
    assert!(
        text.contains("disk         sda: Samsung SSD 860 EVO (serial S3Z8NB0K, 465.7 GiB)"),
        "{text}"
    );
    let (_, json, _) = inventory(root.path(), &["--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["machines"][0]["ram"], 17_179_869_184_u64);
    let (_, csv, _) = inventory(root.path(), &["--csv"]);
    assert!(csv.contains(",'=1+1,"), "{csv}");
    assert!(
        root.path()
            .join("inventory/52-54-00-12-34-56/latest.json")
            .is_file()
    );
}

#[test]
fn a_wrong_search_is_a_wrong_command_line_and_a_stranger_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (status, _, told) = inventory(root.path(), &["ram<8GX"]);
    assert_eq!(status, Some(2));
    assert!(told.contains("  ram<8GX\n      ^^^"), "{told}");
    let (status, _, told) = inventory(root.path(), &["show", "nobody"]);
    assert_eq!(status, Some(1));
    assert!(told.contains("no machine is called nobody"), "{told}");
}

#[test]
fn the_server_takes_in_what_lies_on_the_share_by_itself() {
    let server = Server::start();
    says(&server.path(""), FACTS);
    let found = || server.get("/api/v1/inventory?q=evo").text();
    wait_until("the machine is found", || found().contains("S3Z8NB0K"));
    let csv = server.get("/api/v1/inventory?q=evo&format=csv");
    assert_eq!(
        csv.header("content-disposition"),
        Some("attachment; filename=\"inventory.csv\"")
    );
    assert_eq!(server.get("/api/v1/inventory/lab3-01/diff").status, 200);
    assert_eq!(server.get("/api/v1/inventory?x=1").status, 400);
}
