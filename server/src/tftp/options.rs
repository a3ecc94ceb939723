//! What a client may ask of a transfer beside the file.

use super::netascii::NETASCII;
use pitstop_transport::fetch::tftp::packet::{DEFAULT_BLOCK, LARGEST_BLOCK, Request};
use std::time::Duration;

/// Bytes of one window at most: what is kept for sending again.
const LARGEST_WINDOW_BYTES: usize = 1 << 20;

/// How a transfer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes of a block.
    pub block: usize,
    /// Blocks that are sent before an acknowledgement is awaited.
    pub window: usize,
    /// How long the first wait for an acknowledgement is.
    pub patience: Duration,
    /// What goes into the option acknowledgement, in the client's order; empty: there is none.
    pub answers: Vec<(String, String)>,
}

/// Agrees to what is sensible. An option with a value out of its range is left out, as RFC 2347 has it.
pub fn agree(request: &Request, length: u64) -> Agreed {
    let mut agreed = Agreed {
        block: DEFAULT_BLOCK,
        window: 1,
        patience: Duration::from_secs(1),
        answers: Vec::new(),
    };
    let mut window = 1;
    for (name, value) in &request.options {
        if agreed.answers.iter().any(|(answered, _)| answered == name) {
            continue;
        }
        let number: Option<usize> = value.parse().ok();
        let answer = match (name.as_str(), number) {
            ("blksize", Some(size @ 8..)) => {
                agreed.block = size.min(LARGEST_BLOCK);
                agreed.block.to_string()
            }
            // How long a text is as it is sent is known only when it was.
            ("tsize", Some(_)) if request.mode != NETASCII => length.to_string(),
            ("timeout", Some(seconds @ 1..=255)) => {
                agreed.patience = Duration::from_secs(seconds as u64);
                seconds.to_string()
            }
            ("windowsize", Some(blocks @ 1..=65535)) => {
                window = blocks;
                String::new()
            }
            _ => continue,
        };
        agreed.answers.push((name.clone(), answer));
    }
    // Only now is the block size known, whatever the order.
    agreed.window = window.min((LARGEST_WINDOW_BYTES / agreed.block).max(1));
    if let Some((_, answer)) = agreed
        .answers
        .iter_mut()
        .find(|(name, _)| name == "windowsize")
    {
        *answer = agreed.window.to_string();
    }
    agreed
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_transport::fetch::tftp::packet::Direction;

    fn agreed(options: &[(&str, &str)]) -> Agreed {
        let options = options
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        let request = Request {
            direction: Direction::Read,
            file: b"f".to_vec(),
            mode: "octet".into(),
            options,
        };
        agree(&request, 5000)
    }

    #[test]
    fn sensible_values_are_agreed_to() {
        let agreed = agreed(&[
            ("windowsize", "8"),
            ("tsize", "0"),
            ("blksize", "1468"),
            ("timeout", "3"),
            ("multicast", ""),
            ("blksize", "16"),
        ]);
        assert_eq!((agreed.block, agreed.window), (1468, 8));
        assert_eq!(agreed.patience, Duration::from_secs(3));
        let answers: Vec<_> = agreed
            .answers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            answers,
            [
                ("windowsize", "8"),
                ("tsize", "5000"),
                ("blksize", "1468"),
                ("timeout", "3")
            ]
        );
    }

    #[test]
    fn others_are_bounded_or_left_out() {
        for wrong in [
            ("blksize", "7"),
            ("blksize", "-1"),
            ("blksize", "x"),
            ("timeout", "0"),
            ("timeout", "256"),
            ("windowsize", "0"),
            ("windowsize", "65536"),
        ] {
            assert_eq!(agreed(&[wrong]).answers, [], "{wrong:?}");
        }
        let large = agreed(&[("blksize", "99999"), ("windowsize", "65535")]);
        assert_eq!(large.block, LARGEST_BLOCK);
        assert_eq!(large.window, (1 << 20) / LARGEST_BLOCK);
        assert_eq!(large.answers[1].1, large.window.to_string());
    }
}
