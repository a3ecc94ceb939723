//! The up-case table (7.2): which characters of names are the same. A volume brings its own, so that everybody agrees.

/// A run of characters that stay as they are, in the compressed table (7.2.5).
const RUN: u16 = 0xFFFF;

/// Runs shorter than this are no shorter when they are compressed.
const SHORTEST: usize = 3;

/// The capital of every character of the Basic Multilingual Plane.
pub fn table() -> Vec<u16> {
    (0..=u16::MAX).map(capital).collect()
}

fn capital(unit: u16) -> u16 {
    let Some(small) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut capitals = small.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
        _ => unit,
    }
}

/// The table as it is stored.
pub fn compressed(table: &[u16]) -> Vec<u8> {
    let mut stored = Vec::new();
    let mut put = |unit: u16| stored.extend(unit.to_le_bytes());
    let mut at = 0;
    while let Some(rest) = table.get(at..).filter(|rest| !rest.is_empty()) {
        let same = rest
            .iter()
            .zip(at..)
            .take_while(|(capital, unit)| usize::from(**capital) == *unit)
            .count();
        // The last character's own number means a run.
        let run = same.min(usize::from(u16::MAX));
        if run >= SHORTEST || (run > 0 && rest[0] == RUN) {
            put(RUN);
            put(u16::try_from(run).unwrap_or(u16::MAX));
            at += run;
        } else {
            put(rest[0]);
            at += 1;
        }
    }
    stored
}

/// Sums of bytes are turned by a bit before each (Figures 1, 3).
pub fn checksum(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let add = |sum: u32, byte| sum.rotate_right(1).wrapping_add(u32::from(byte));
    bytes.into_iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_table_is_the_table_again() {
        let table = table();
        let stored = compressed(&table);
        let mut again: Vec<u16> = Vec::new();
        let mut units = stored
            .chunks(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        while let Some(unit) = units.next() {
            if unit == RUN {
                let begin = again.len();
                let count = usize::from(units.next().unwrap());
                again.extend((begin..begin + count).map(|unit| u16::try_from(unit).unwrap()));
            } else {
                again.push(unit);
            }
        }
        assert!(again == table);
        assert!(stored.len() < 8192, "{}", stored.len());
        // The first 128 are given (7.2.5.1).
        for unit in 0..128u8 {
            assert_eq!(
                table[usize::from(unit)],
                u16::from(unit.to_ascii_uppercase())
            );
        }
    }
}
