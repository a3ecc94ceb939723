//! Turns that tests take, those of other programs too: programs of tests run beside each other.

use std::fs::File;

/// Waits until no other test holds the turn of this name. It ends with the value.
#[must_use = "the turn ends with it"]
pub fn take(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("pitstop-test-turn-{name}"));
    let turn = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    turn.lock()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    turn
}

#[cfg(test)]
mod tests {
    use super::take;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_turn_is_one_tests_at_a_time() {
        let name = format!("of-{}", std::process::id());
        let first = take(&name);
        let second = thread::spawn({
            let name = name.clone();
            move || drop(take(&name))
        });
        thread::sleep(Duration::from_millis(200));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap();
        std::fs::remove_file(std::env::temp_dir().join(format!("pitstop-test-turn-{name}")))
            .unwrap();
    }
}
