//! What machines cost: a line for each in a file that `.ci/test` sums up.

use crate::paths;
use std::fs::{self, File};
use std::io::Write;
use std::thread;
use std::time::Instant;

/// What a machine has used of this computer.
pub(crate) struct Usage {
    name: String,
    began: Instant,
    /// Until it was waited for: then another may get its number.
    process: Option<u32>,
    /// Seconds of a processor, and of the clock.
    processor: f64,
    lasted: f64,
}

impl Usage {
    /// Of the machine of this name that runs in this process from now on.
    pub(crate) fn of(name: &str, process: u32) -> Usage {
        Usage {
            name: name.to_owned(),
            began: Instant::now(),
            process: Some(process),
            processor: 0.0,
            lasted: 0.0,
        }
    }

    /// Looks at what it has used, which can be seen until it is waited for.
    pub(crate) fn look(&mut self) {
        let stat = self
            .process
            .and_then(|id| fs::read_to_string(format!("/proc/{id}/stat")).ok());
        if let Some(seconds) = stat.as_deref().and_then(processor_seconds) {
            self.processor = seconds;
        }
    }

    /// It was waited for.
    pub(crate) fn is_over(&mut self) {
        if self.process.take().is_some() {
            self.lasted = self.began.elapsed().as_secs_f64();
        }
    }

    /// Notes it with the test whose thread this is. Its numbers are for people: where they cannot be written the tests go on.
    pub(crate) fn note(&self) {
        let test = thread::current().name().unwrap_or("?").to_owned();
        let line = format!(
            "{test}\t{}\t{:.1}\t{:.1}\n",
            self.name, self.processor, self.lasted
        );
        let file = paths::cache().map(|folder| folder.join("machines.tsv"));
        if let Ok(Ok(mut file)) =
            file.map(|path| File::options().append(true).create(true).open(path))
        {
            // One write, so that lines of several machines stay apart.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// proc(5): the name in parentheses, which may hold anything; utime and stime are the 12th and 13th after it, in hundredths.
fn processor_seconds(stat: &str) -> Option<f64> {
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| words.get(at)?.parse::<u32>().ok().map(f64::from);
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_is_found_behind_any_name() {
        let stat = "42 (qemu) (x) S 1 42 42 0 -1 4194560 1 0 0 0 1234 66 7 8 20 0 4 0 99";
        assert_eq!(processor_seconds(stat), Some(13.0));
        assert_eq!(processor_seconds("42 (cut"), None);
    }
}
