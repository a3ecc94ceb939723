//! A run that reports for days must not fill the disk: where its events are too many, the oldest progress goes first, then
//! the oldest lines of the log, then what the oldest steps did. What was planned and what came of it stays: no machine has so
//! much of that. Of somebody who sends it without end the newest stays.

use pitstop_protocol::event::{self, Line, What};

/// What a line is worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Progress,
    Log,
    Step,
    Outline,
}

fn worth(line: &str) -> Worth {
    match event::parse(line) {
        Ok(Line::Known(record)) => match record.what {
            What::Progress(_) => Worth::Progress,
            What::Log { .. } | What::Dropped { .. } => Worth::Log,
            What::Step { .. } | What::ReadErrors { .. } | What::Inventory { .. } => Worth::Step,
            What::Begin { .. } | What::Job { .. } | What::Plan { .. } | What::Result(_) => {
                Worth::Outline
            }
        },
        // Whatever it is: it may be many.
        Ok(Line::Unknown { .. }) => Worth::Log,
        Err(_) => Worth::Progress,
    }
}

/// The lines of `events`, thinned until they have at most `most` bytes.
pub(super) fn thin(events: &str, most: usize) -> String {
    let mut lines: Vec<(&str, Worth)> = events.lines().map(|line| (line, worth(line))).collect();
    let mut left = lines.iter().map(|(line, _)| line.len() + 1).sum::<usize>();
    for goes in [Worth::Progress, Worth::Log, Worth::Step, Worth::Outline] {
        lines.retain(|(line, worth)| {
            let drop = left > most && *worth == goes;
            if drop {
                left -= line.len() + 1;
            }
            !drop
        });
    }
    let mut text = String::with_capacity(left);
    for (line, _) in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: usize, rest: &str) -> String {
        format!(
            "{{\"v\":1,\"run\":\"20261128-213000-a1b2c3\",\"seq\":{seq},\"time\":\"2026-11-28T21:30:00.100Z\",{rest}}}\n"
        )
    }

    #[test]
    fn the_oldest_progress_goes_first_and_the_outline_last() {
        let job = line(1, "\"type\":\"job\",\"action\":\"backup\"");
        let log = |seq| line(seq, "\"type\":\"log\",\"level\":\"info\",\"text\":\"x\"");
        let progress = |seq| {
            line(
                seq,
                "\"type\":\"progress\",\"act\":\"backup\",\"done\":1,\"transferred\":1,\"elapsed-ms\":1",
            )
        };
        let bad = |seq| {
            line(
                seq,
                "\"type\":\"read-errors\",\"places\":1,\"bytes\":512,\"first\":[[0,512]],\"zeroed\":true",
            )
        };
        let all = [job.clone(), log(2), progress(3), progress(4), log(5)];
        let whole = all.concat();
        assert_eq!(thin(&whole, whole.len()), whole);
        let less = [&all[..2], &all[3..]].concat().concat();
        assert_eq!(thin(&whole, whole.len() - 1), less);
        let no_progress = [job.clone(), log(2), log(5)].concat();
        assert_eq!(thin(&whole, no_progress.len()), no_progress);
        assert_eq!(thin(&whole, job.len()), job);
        // One kind alone, without end.
        let many = (2..100).map(bad).collect::<String>();
        let some = thin(&format!("{job}{many}"), 1000);
        assert!(some.len() <= 1000, "{some}");
        assert!(some.starts_with(&job) && some.ends_with(&bad(99)), "{some}");
        let result = line(
            100,
            "\"type\":\"result\",\"verdict\":\"ok\",\"action\":\"backup\",\"bytes\":1,\"elapsed-ms\":2,\"read-errors\":0",
        );
        let jobs = job.repeat(100) + &result;
        let some = thin(&jobs, 1000);
        assert!(some.len() <= 1000 && some.ends_with(&result), "{some}");
    }
}
