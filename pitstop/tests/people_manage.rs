//! Users and tokens, managed by the API and by commands; and their files.

mod common;
mod people_common;

use common::{Server, everything_in};
use people_common::{add, bearer, command, done, log_in, refused, send, token};
use std::os::unix::fs::PermissionsExt;

const RUNS: &str = "/api/v1/runs";

#[test]
fn users_and_tokens_are_managed_by_the_api() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "admin");
    let ann = bearer(&token(&root, "--user ann"));
    let json = format!("{ann}Content-Type: application/json\r\n");
    let ask = |method: &str, path: &str, body: &str| {
        let answer = send(&server, method, &format!("/api/v1/{path}"), &json, body);
        let text = answer.text();
        let value = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
        (answer.status, value)
    };
    let kim = r#"{"name":"kim","role":"operator","password":"secret words"}"#;
    let (status, made) = ask("POST", "users", kim);
    assert_eq!(
        (status, &made["name"], &made["role"]),
        (201, &"kim".into(), &"operator".into())
    );
    assert!(!made.to_string().contains("argon2"), "{made}");
    assert_eq!(ask("POST", "users", kim).0, 409);
    for wrong in [
        r#"{"name":"a b","role":"viewer","password":"x"}"#,
        r#"{"name":"lee","role":"viewer","password":""}"#,
        r#"{"name":"lee","role":"king","password":"x"}"#,
        "{",
    ] {
        let (status, answer) = ask("POST", "users", wrong);
        assert_eq!(status, 400, "{wrong}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(ask("GET", "users", "").1["users"][1]["name"], "kim");
    assert_eq!(
        ask(
            "PATCH",
            "users/kim",
            r#"{"role":"viewer","password":"others"}"#
        )
        .1["role"],
        "viewer"
    );
    log_in(&server, "kim", "others");
    let last = ask("DELETE", "users/ann", "");
    assert_eq!(last.0, 409);
    assert!(
        last.1["error"].as_str().unwrap().contains("the last admin"),
        "{}",
        last.1
    );
    assert_eq!(ask("PATCH", "users/ann", r#"{"role":"viewer"}"#).0, 409);

    let (status, made) = ask(
        "POST",
        "tokens",
        r#"{"user":"kim","expires":"90d","note":"graphs"}"#,
    );
    assert_eq!(status, 201);
    let kims = bearer(made["secret"].as_str().unwrap());
    assert_eq!(server.request("GET", RUNS, &kims, b"").status, 200);
    assert_eq!(
        ask("POST", "tokens", r#"{"user":"kim","role":"admin"}"#).0,
        400
    );
    assert_eq!(
        ask("POST", "tokens", r#"{"user":"kim","expires":"soon"}"#).0,
        400
    );
    assert_eq!(ask("POST", "tokens", r#"{"user":"nobody"}"#).0, 404);
    let listed = ask("GET", "tokens", "").1;
    assert!(listed.to_string().contains("graphs"), "{listed}");
    assert!(!listed.to_string().contains("secret"), "{listed}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(ask("DELETE", &format!("tokens/{id}"), "").0, 204);
    assert_eq!(ask("DELETE", &format!("tokens/{id}"), "").0, 404);
    assert_eq!(server.request("GET", RUNS, &kims, b"").status, 401);
    assert_eq!(ask("DELETE", "users/kim", "").0, 204);
    let audit = ask("GET", "audit?last=2", "").1;
    let lines = audit["audit"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{audit}");
    assert_eq!(
        (&lines[1]["act"], &lines[1]["object"]),
        (&"remove user".into(), &"kim".into())
    );
    assert_eq!(lines[1]["who"], "ann");
}

#[test]
fn commands_say_what_they_refuse_and_keep_their_files_private() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let role = command(root, "user add ann --role king --password-stdin", "pw\n");
    assert_eq!(role.status.code(), Some(2));
    for (words, input, why) in [
        (
            "user add ann --role admin --password-stdin",
            "\n",
            "the password is empty",
        ),
        ("user add ann --role admin", "", "--password-stdin"),
        ("user remove ann", "", "there is no user ann"),
        ("token new --user ann", "", "there is no user ann"),
        ("token revoke 00000000", "", "there is no token 00000000"),
    ] {
        let said = refused(root, words, input);
        assert!(said.contains(why), "{words}: {said}");
    }
    add(root, "ann", "admin");
    add(root, "kim", "viewer");
    for (words, why) in [
        (
            "user add ann --role viewer --password-stdin",
            "there is a user ann already",
        ),
        (
            "user add ANN --role viewer --password-stdin",
            "there is a user ann already",
        ),
        ("user remove ann", "the last admin"),
        ("user role ann viewer", "the last admin"),
        ("token new --user kim --role admin", "kim is viewer"),
    ] {
        let said = refused(root, words, "password\n");
        assert!(said.contains(why), "{words}: {said}");
    }
    let kims = token(root, "--user kim --expires 90d --note \u{2603}");
    assert!(kims.starts_with("pitstop_"), "{kims}");
    let listed = done(root, "token list", "");
    assert!(
        listed.contains("kim") && listed.contains('\u{2603}'),
        "{listed}"
    );
    assert!(!listed.contains(&kims), "{listed}");
    let people = root.join("people");
    let mode = |name: &str| {
        let path = people.join(name);
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for name in everything_in(&people) {
        assert_eq!(mode(&name), 0o600, "{name}");
        let text = std::fs::read_to_string(people.join(&name)).unwrap();
        let secret = kims.rsplit('_').next().unwrap();
        assert!(
            !text.contains(secret) && !text.contains("long enough"),
            "{name}"
        );
    }
    done(root, "user remove ann --force", "");
    assert!(done(root, "user remove kim", "").contains("no user left"));
    assert!(done(root, "user list", "").starts_with("There is no user"));
    let log = done(root, "user audit --json", "");
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert!(log.as_array().unwrap().len() >= 8, "{log}");
}

#[test]
fn a_users_file_that_is_wrong_lets_nobody_in() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "admin");
    let ann = bearer(&token(&root, "--user ann"));
    let path = root.join("people/users.toml");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "nonsense").unwrap();
    for headers in [ann.as_str(), ""] {
        let answer = server.request("GET", RUNS, headers, b"");
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("line 1"), "{}", answer.text());
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(server.get(RUNS).status, 503);
    assert_eq!(server.get("/hosts/").status, 200);
    std::fs::write(&path, good).unwrap();
    assert_eq!(server.request("GET", RUNS, &ann, b"").status, 200);
}
