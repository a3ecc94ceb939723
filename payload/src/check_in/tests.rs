use super::script::Script;
use super::*;
use pitstop_imaging::event::Event;
use std::sync::Mutex;

const GO: (u16, &str) = (200, r#"{"answer":"go","beat-ms":30}"#);
const EARLY: &str =
    r#"{"answer":"wait","place":1,"of":1,"ask-ms":30,"why":"golden is being backed up"}"#;
const NOTED: (u16, &str) = (200, r#"{"answer":"noted"}"#);

/// How long a server may take on a computer that has much else to do.
const LONG: Duration = Duration::from_secs(600);

/// What was said.
#[derive(Default)]
struct Console(Mutex<Vec<String>>);

impl Reporter for Console {
    fn event(&self, event: &Event) {
        if let Event::Message { level, text } = event {
            let line = format!("{}: {text}", level.word());
            self.0.lock().unwrap().push(line);
        }
    }
}

impl Console {
    fn lines(&self, level: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let wanted = lines.iter().filter_map(|line| line.strip_prefix(level));
        wanted
            .map(|line| line.trim_start_matches(": ").to_owned())
            .collect()
    }
}

fn door(url: &Url, patience: Duration) -> (Door, Arc<Console>) {
    let console = Arc::new(Console::default());
    let transfer = Transfer {
        retry_for: patience,
        ..Transfer::default()
    };
    let run = "20261128-213000-ab1234".parse().unwrap();
    let door = Door::new(url, run, &transfer, console.clone()).unwrap();
    (door, console)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_machine_says_its_place_waits_works_and_says_how_it_went() {
    let script = Script::start(&[
        (200, r#"{"answer":"wait","place":2,"of":12,"ask-ms":30}"#),
        (200, r#"{"answer":"wait","place":2,"of":13,"ask-ms":30}"#),
        (200, r#"{"answer":"wait","place":1,"of":13,"ask-ms":30}"#),
        (200, EARLY),
        (200, EARLY),
        GO,
        NOTED,
    ]);
    let (door, console) = door(&script.url(), LONG);
    let Admitted::Go { slot, .. } = door.wait(&mut |_| false).unwrap() else {
        panic!("no slot");
    };
    assert_eq!(
        console.lines("info"),
        [
            "waiting for a slot: 2nd of 12",
            "waiting for a slot: 1st of 13",
            "waiting: golden is being backed up"
        ]
    );
    until("no word while it works", || script.count("working") > 2);
    slot.failed("no disk", true);
    let failed = r#""state":"failed","reason":"no disk","again":true"#;
    // What was being said meanwhile may be heard behind it.
    let heard = script.heard();
    let last = &heard[heard.len() - 2..];
    assert!(last.iter().any(|said| said.contains(failed)), "{last:?}");
    let spoken = script.heard().len();
    thread::sleep(Duration::from_millis(100));
    assert!(script.heard().len() <= spoken + 1, "it speaks on");
}

#[test]
fn a_server_that_is_away_is_waited_for_and_then_the_try_has_failed() {
    let script = Script::start(&[(503, "starting"), (503, "starting"), GO]);
    let (at, console) = door(&script.url(), LONG);
    assert!(matches!(
        at.wait(&mut |_| false).unwrap(),
        Admitted::Go { .. }
    ));
    let told = console.lines("warning");
    let limit = format!("trying again for up to {}", units::duration(LONG));
    assert!(told.len() == 1 && told[0].contains(&limit), "{told:?}");

    let gone = "http://127.0.0.1:1/check-in/20261128-213000-ab1234"
        .parse()
        .unwrap();
    let (door, _) = door(&gone, Duration::from_millis(300));
    let error = door.wait(&mut |_| false).err().unwrap().to_string();
    assert!(
        error.starts_with("asking for a slot: POST http://127.0.0.1:1/")
            && error.contains("tries)"),
        "{error}"
    );
}

#[test]
fn answers_that_decide_are_taken_as_they_are() {
    let cancelled = Script::start(&[(200, r#"{"answer":"cancelled","reason":"by root"}"#)]);
    let (at, _) = door(&cancelled.url(), LONG);
    let answer = at.wait(&mut |_| false).unwrap();
    assert!(matches!(answer, Admitted::Cancelled { reason, .. } if reason == "by root"));

    // A plain server, or one that has lost its jobs: the host file alone counts.
    for status in [404, 405, 501] {
        let plain = Script::start(&[(status, "no")]);
        let (at, console) = door(&plain.url(), LONG);
        assert!(matches!(
            at.wait(&mut |_| false).unwrap(),
            Admitted::Untracked
        ));
        assert!(console.lines("warning")[0].contains("without a slot"));
    }

    let stranger = Script::start(&[(403, "not the configuration of 10.0.0.9")]);
    let (at, _) = door(&stranger.url(), LONG);
    let error = at.wait(&mut |_| false).err().unwrap().to_string();
    assert!(
        error.contains("not the configuration of 10.0.0.9"),
        "{error}"
    );
    assert_eq!(stranger.heard().len(), 1);
}

#[test]
fn words_that_are_lost_neither_slow_nor_fail_the_work() {
    let script = Script::start(&[GO, (500, "broken"), (200, "not json"), NOTED]);
    let (at, console) = door(&script.url(), LONG);
    let Admitted::Go { slot, .. } = at.wait(&mut |_| false).unwrap() else {
        panic!("no slot");
    };
    until("it gives up", || script.count("working") > 3);
    drop(slot);
    assert_eq!(console.lines("error"), [""; 0]);
}

#[test]
fn a_machine_that_waits_long_gives_signs_of_life() {
    let script = Script::start(&[
        (200, r#"{"answer":"wait","place":1,"of":1,"ask-ms":8000}"#),
        GO,
    ]);
    let (at, console) = door(&script.url(), LONG);
    assert!(matches!(
        at.wait(&mut |_| false).unwrap(),
        Admitted::Go { .. }
    ));
    // One before each of the two questions, and two in the four seconds and more in between: PID 1 would end one that is silent.
    let signs = console.lines("debug").len();
    assert!(signs >= 4, "{signs}");
}

#[test]
fn waits_are_spread() {
    let waits: Vec<Duration> = (0..50).map(|_| jittered(Duration::from_secs(1))).collect();
    assert!(
        waits
            .iter()
            .all(|wait| (500..=1000).contains(&wait.as_millis()))
    );
    assert!(waits.iter().any(|wait| wait.as_millis() < 750));
    assert!(waits.iter().any(|wait| wait.as_millis() > 750));
}
