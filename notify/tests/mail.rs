//! Mail against a mail server of another project.

mod common;

use common::{MailServer, PATIENCE, Scene, notice};
use pitstop_notify::{Config, Event, Undelivered};
use std::fs;

fn config(server: &MailServer, more: &str) -> String {
    format!(
        "[[mail]]\nname = \"admins\"\nserver = \"localhost\"\nport = {}\nfrom = \"Pitstop <pitstop@lab.example>\"\n\
         to = [\"a@lab.example\", \"b@lab.example\"]\n{more}\n",
        server.port
    )
}

/// With a password file and the server's authority.
fn secured(scene: &Scene, server: &MailServer, password: &str, more: &str) -> String {
    let file = scene.root.path().join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    let ca = server.authority();
    config(
        server,
        &format!(
            "user = \"lab\"\npassword-file = \"{}\"\nca-file = \"{}\"\n{more}",
            file.display(),
            ca.display()
        ),
    )
}

#[test]
fn a_failure_is_mailed_to_all_over_starttls_with_a_password() {
    let server = MailServer::start("starttls", &["lab", "s3cret"]);
    let scene = Scene::new("");
    scene.write(&secured(&scene, &server, "s3cret", ""));
    let notifier = scene.start();
    notifier.notice(notice(7, Event::GaveUp));
    let mail = server.mails.recv_timeout(PATIENCE).unwrap();
    assert_eq!(mail["from"], "pitstop@lab.example");
    assert_eq!(
        mail["to"],
        serde_json::json!(["a@lab.example", "b@lab.example"])
    );
    assert_eq!((&mail["tls"], &mail["user"]), (&true.into(), &"lab".into()));
    let text = mail["text"].as_str().unwrap();
    for wanted in [
        "Subject: Pitstop: lab3-01 gave up backup: reason 7\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "machine   lab3-01 (192.0.2.1)",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn tls_from_the_first_byte_and_none_at_all_work_too() {
    let server = MailServer::start("tls", &[]);
    let scene = Scene::new(&config(
        &server,
        &format!("security = \"tls\"\nca-file = {:?}", server.authority()),
    ));
    let notifier = scene.start();
    notifier.notice(notice(1, Event::Failed));
    let mail = server.mails.recv_timeout(PATIENCE).unwrap();
    assert_eq!(mail["tls"], true);
    let server = MailServer::start("none", &[]);
    let templates =
        "security = \"none\"\nsubject = \"{{ machine }}\\nBcc: x\"\nbody = \"{{ reason }}\"";
    let scene = Scene::new(&config(&server, templates));
    let notifier = scene.start();
    notifier.notice(notice(2, Event::Failed));
    let mail = server.mails.recv_timeout(PATIENCE).unwrap();
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains("Subject: lab3-01 Bcc: x\r\n"), "{text}");
    assert!(text.trim_end().ends_with("\r\n\r\nreason 2"), "{text}");
}

#[test]
fn what_a_mail_server_refuses_is_told_and_no_password_is() {
    let starttls = MailServer::start("starttls", &["lab", "s3cret"]);
    let plain = MailServer::start("none", &[]);
    let stranger = MailServer::start("none", &[]);
    let scene = Scene::new("");
    let deliver = |text: &str| {
        let config = Config::parse(&format!("version = 1\n{text}")).unwrap();
        let error = config.receivers[0].deliver(&notice(1, Event::Failed));
        let error = error.unwrap_err();
        assert!(!error.to_string().contains("wr0ng"), "{error}");
        error
    };
    // A password may be put right: it is tried again.
    let error = deliver(&secured(&scene, &starttls, "wr0ng", ""));
    assert!(
        matches!(&error, Undelivered::Passing(why) if why.contains("535")),
        "{error}"
    );
    // A server that has no TLS gets neither password nor mail.
    let error = deliver(&secured(&scene, &plain, "wr0ng", ""));
    assert!(matches!(error, Undelivered::Passing(_)), "{error}");
    assert!(plain.mails.try_recv().is_err());
    // Nor does one whose authority is another.
    let other = format!("ca-file = {:?}", stranger.authority());
    let error = deliver(&config(&starttls, &other));
    assert!(error.to_string().contains("certificate"), "{error}");
    // Who is gone keeps nobody else from hearing.
    let nobody = config(&plain, "security = \"none\"").replace("a@lab", "nobody@lab");
    let error = deliver(&nobody);
    assert!(
        matches!(&error, Undelivered::Lasting(why)
            if why.contains("550") && why.contains("1 of 2 were told, and not nobody@lab")),
        "{error}"
    );
    // Where nobody has heard, whoever may hear later will.
    let busy = nobody.replace("b@lab", "busy@lab");
    let error = deliver(&busy);
    assert!(
        matches!(&error, Undelivered::Passing(why)
            if why.contains("0 of 2 were told") && why.contains("451")),
        "{error}"
    );
    let mail = plain.mails.recv_timeout(PATIENCE).unwrap();
    assert_eq!(mail["to"], serde_json::json!(["b@lab.example"]));
    assert!(plain.mails.try_recv().is_err());
}
