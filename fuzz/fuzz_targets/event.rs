//! Any line is an event or none; what is known is written as it was read, and what is shown moves no cursor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_imaging::render::sentence;
use pitstop_protocol::event::{Line, parse};

fuzz_target!(|text: &str| {
    let Ok(line) = parse(text) else {
        return;
    };
    let _ = sentence(&line.event());
    if let Line::Known(record) = &line
        // Escaped anew, a line may be longer than it came.
        && let Ok(written) = record.line()
    {
        let Ok(Line::Known(again)) = parse(&written) else {
            panic!("{written} is not known any more");
        };
        assert_eq!((again.seq, &again.what), (record.seq, &record.what));
    }
});
