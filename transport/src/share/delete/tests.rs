//! Configurations that can be deleted, and those that cannot.

use super::*;
use crate::fetch::fake::{FakeServer, Fault, patient};

fn carriers() -> Carriers {
    Carriers {
        http: patient(),
        mounts: std::env::temp_dir(),
        address: "127.0.0.1".parse().unwrap(),
        sign_at: None,
        stick: crate::share::Stick::at(Path::new("/nonexistent")),
    }
}

fn target(url: &Url) -> DeleteTarget {
    url.as_str().parse().unwrap()
}

fn refused(target: &DeleteTarget) -> String {
    format!(
        "{:#}",
        check(std::slice::from_ref(target), &carriers()).unwrap_err()
    )
}

#[test]
fn what_can_be_deleted_passes_and_is_gone_afterwards() {
    let server = FakeServer::start();
    server.put("/hosts/0A00020F.toml", b"x");
    let targets = [target(&server.url("/hosts/0A00020F.toml"))];
    check(&targets, &carriers()).unwrap();
    assert!(server.get("/hosts/0A00020F.toml").is_some());
    server.fail("DELETE", Fault::Status(503));
    delete(&targets, &carriers()).unwrap();
    assert_eq!(server.names(), [""; 0]);
}

#[test]
fn a_missing_or_protected_configuration_is_found_out_beforehand() {
    let server = FakeServer::start();
    let target = target(&server.url("/hosts/0A00020F.toml"));
    assert!(refused(&target).contains("0A00020F.toml cannot be deleted later: it does not exist"));
    server.put("/hosts/0A00020F.toml", b"x");
    for status in [405, 403, 401, 501, 400] {
        server.fail("DELETE", Fault::Status(status));
        let error = refused(&target);
        assert!(
            error.contains(&format!("not allow DELETE (HTTP {status})")),
            "{error}"
        );
    }
    server.lack("HEAD");
    check(&[target], &carriers()).unwrap();
}

#[test]
fn a_deletion_that_did_not_happen_is_noticed() {
    let server = FakeServer::start();
    server.put("/hosts/x.toml", b"x");
    // A client on a busy computer may ask more than once.
    for _ in 0..5 {
        server.fail("DELETE", Fault::Status(204));
    }
    let targets = [target(&server.url("/hosts/x.toml"))];
    let error = format!("{:#}", delete(&targets, &carriers()).unwrap_err());
    assert!(error.contains("still there (HTTP 200)"), "{error}");
}

#[test]
fn a_deletion_whose_answer_was_lost_is_done_though_the_next_is_refused() {
    let server = FakeServer::start();
    server.put("/hosts/x.toml", b"x");
    server.fail("DELETE", Fault::Mute);
    server.fail("DELETE", Fault::Status(403));
    let targets = [target(&server.url("/hosts/x.toml"))];
    delete(&targets, &carriers()).unwrap();
    let asked = ["DELETE", "DELETE", "GET"].map(|method| format!("{method} /hosts/x.toml"));
    assert_eq!(server.log(), asked);

    server.put("/hosts/x.toml", b"x");
    server.fail("DELETE", Fault::Status(403));
    let error = format!("{:#}", delete(&targets, &carriers()).unwrap_err());
    assert!(error.contains("DELETE") && error.contains("403"), "{error}");
}

#[test]
fn tftp_says_what_to_give_instead() {
    let error = refused(&"tftp://srv/hosts/x.toml".parse().unwrap());
    assert!(
        error.contains("nothing can be deleted over tftp"),
        "{error}"
    );
    assert!(error.contains("pitstop.delete"), "{error}");
}

#[test]
fn files_are_checked_by_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    let url = Url::from_file_path(&path).unwrap();
    assert!(refused(&target(&url)).contains("it does not exist"));
    fs::write(&path, "x").unwrap();
    check(&[target(&url)], &carriers()).unwrap();
    delete(&[target(&url)], &carriers()).unwrap();
    assert!(!path.exists());
}
